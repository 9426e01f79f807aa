"""Estimate optical flow of videos; `pixpro_d2.flow_files` stores it."""

from .estimators import ESTIMATORS, build_estimator

__all__ = ["ESTIMATORS", "build_estimator"]
