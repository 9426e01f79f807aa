"""Pixel-level pre-training of any PyTorch network, without a config file."""

from .learner import PixelLearner

__all__ = ["PixelLearner"]
