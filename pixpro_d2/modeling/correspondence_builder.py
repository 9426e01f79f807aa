"""The correspondence that a config asks for: by boxes, or by optical flow between frames of a video."""

from ..errors import UsageError, check_choice
from ..flow import build_estimator
from .correspondence import BoxCorrespondence
from .flow_correspondence import FlowCorrespondence
from .flow_points import CONSISTENCY


def build_correspondence(cfg):
    """BoxCorrespondence for views of one image or frame, FlowCorrespondence for ``INPUT.PIXPRO.N_FRAMES`` above 1."""
    pixpro, flow = cfg.MODEL.PIXPRO, cfg.MODEL.PIXPRO.FLOW
    check_choice("MODEL.PIXPRO.DISTANCE_UNITS", pixpro.DISTANCE_UNITS, ("normalized", "pixel"))
    geometry = (pixpro.POS_RATIO, pixpro.DISTANCE_UNITS, pixpro.OFFICIAL_ROUNDING)
    if cfg.INPUT.PIXPRO.N_FRAMES <= 1:
        return BoxCorrespondence(*geometry, cfg.INPUT.PIXPRO.MIN_OVERLAP)
    check_choice("MODEL.PIXPRO.FLOW.CONSISTENCY", flow.CONSISTENCY, CONSISTENCY)
    if flow.ALPHA1 < 0 or flow.ALPHA2 <= 0:
        raise UsageError(
            f"MODEL.PIXPRO.FLOW.ALPHA1 is {flow.ALPHA1} and ALPHA2 {flow.ALPHA2}; the first must not be negative, the "
            "second be positive: set CONSISTENCY none for no check."
        )
    if flow.SCALE < 1:
        raise UsageError(f"MODEL.PIXPRO.FLOW.SCALE is {flow.SCALE}; it must be at least 1.")
    estimator = None
    if not flow.FILES:
        estimator = build_estimator(flow.ESTIMATOR, flow.WEIGHTS or None, cfg.MODEL.DEVICE, flow.SCALE)
    return FlowCorrespondence(*geometry, flow.CONSISTENCY, flow.ALPHA1, flow.ALPHA2, estimator)
