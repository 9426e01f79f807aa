"""Estimating optical flow of videos; `pixpro_d2.flow_files` says how flow is stored."""

from .estimators import ESTIMATORS, build_estimator

__all__ = ["ESTIMATORS", "build_estimator"]
