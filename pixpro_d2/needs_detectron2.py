"""Raise an ImportError with instructions if detectron2 is missing; packages that need it import this module first."""

from .utils.detectron2_check import HOW, detectron2_is_installed

if not detectron2_is_installed():
    raise ImportError(HOW)
