"""The correspondence that a config asks for: by boxes, or by optical flow between frames of a video."""

from detectron2.config import CfgNode

from ...flow.estimators import build_estimator
from .correspondence import BoxCorrespondence
from .flow_correspondence import FlowCorrespondence


def build_correspondence(cfg: CfgNode) -> BoxCorrespondence:
    """Build a FlowCorrespondence for ``INPUT.PIXPRO.N_FRAMES`` above 1, and a BoxCorrespondence for a single frame."""
    pixpro, flow = cfg.MODEL.PIXPRO, cfg.MODEL.PIXPRO.FLOW
    geometry = (pixpro.POS_RATIO, pixpro.DISTANCE_UNITS, pixpro.OFFICIAL_ROUNDING)
    if cfg.INPUT.PIXPRO.N_FRAMES <= 1:
        return BoxCorrespondence(*geometry, cfg.INPUT.PIXPRO.MIN_OVERLAP)
    estimator = None
    if not flow.FILES:
        estimator = build_estimator(flow.ESTIMATOR, flow.WEIGHTS, cfg.MODEL.DEVICE, flow.SCALE)
    return FlowCorrespondence(*geometry, flow.CONSISTENCY, flow.ALPHA1, flow.ALPHA2, estimator)
