"""Evaluators of the downstream tasks."""

from .build import build_evaluator

__all__ = ["build_evaluator"]
