"""Check that the parts of a model that a config names are registered."""

from detectron2.config import CfgNode
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
)
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY

from ... import modeling  # noqa: F401  registers this project's parts
from ...utils.errors import check_choice
from ...utils.nested import value_of

# Registry of the names that a key accepts, and accepted names that are not registered.
REGISTRIES = {
    "MODEL.META_ARCHITECTURE": (META_ARCH_REGISTRY, ()),
    "MODEL.BACKBONE.NAME": (BACKBONE_REGISTRY, ()),
    "MODEL.ANCHOR_GENERATOR.NAME": (ANCHOR_GENERATOR_REGISTRY, ()),
    "MODEL.PROPOSAL_GENERATOR.NAME": (PROPOSAL_GENERATOR_REGISTRY, ("PrecomputedProposals",)),
    "MODEL.RPN.HEAD_NAME": (RPN_HEAD_REGISTRY, ()),
    "MODEL.ROI_HEADS.NAME": (ROI_HEADS_REGISTRY, ()),
    "MODEL.ROI_BOX_HEAD.NAME": (ROI_BOX_HEAD_REGISTRY, ("",)),
    "MODEL.ROI_MASK_HEAD.NAME": (ROI_MASK_HEAD_REGISTRY, ()),
    "MODEL.SEM_SEG_HEAD.NAME": (SEM_SEG_HEADS_REGISTRY, ()),
}


def check_registered(cfg: CfgNode) -> None:
    """Check that every key of ``REGISTRIES`` names a registered part.

    Raises:
        UsageError: otherwise.
    """
    for key, (registry, further) in REGISTRIES.items():
        check_choice(key, value_of(cfg, key), sorted({*further, *(name for name, _ in registry)}))
