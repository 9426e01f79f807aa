"""The distillation that a config asks for."""

import logging
import math
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import Backbone

from ...checkpoint.convention import InputConvention
from ...utils.errors import UsageError
from ..backbone import feature_channels
from .distillation import Distillation
from .projector import LevelHeads, Projector
from .teacher import InputConversion, InputNormalization, Teacher, probe_teacher
from .teacher_networks import FrozenNetwork, open_teacher

logger = logging.getLogger(__name__)


def build_distillation(cfg: CfgNode, backbone: Backbone, head: Any) -> Distillation | None:
    """Build the distillation of ``MODEL.PIXPRO.DISTILL`` for a student; None if its weight is 0.

    Args:
        cfg: config of a pre-training.
        backbone: the student's backbone.
        head: the student's dense head, whose features the teacher's are compared with; None for the backbone's.

    Raises:
        UsageError: for a config that does not fit, and for a teacher that cannot be loaded or used.
    """
    pixpro, distill = cfg.MODEL.PIXPRO, cfg.MODEL.PIXPRO.DISTILL
    if distill.WEIGHT <= 0:
        return None
    _check(cfg)
    channels = feature_channels(backbone, pixpro.IN_FEATURES)
    if head is not None:
        channels = dict.fromkeys(channels, head.out_channels)
    teacher = build_teacher(cfg)
    projector = LevelHeads(
        lambda width: Projector(width, pixpro.PROJECTOR.HIDDEN_DIM, teacher.channels, pixpro.NORM),
        channels,
        pixpro.SHARE_HEADS,
    )
    return Distillation(teacher, projector, distill.WEIGHT, distill.VIEW, distill.LOSS)


def build_teacher(cfg: CfgNode) -> Teacher:
    """Load the teacher of ``MODEL.PIXPRO.DISTILL``, and try it on black images of the views' size."""
    distill, size = cfg.MODEL.PIXPRO.DISTILL, cfg.INPUT.PIXPRO.CROP_SIZE
    frozen = open_teacher(distill.TEACHER, distill.WEIGHTS, distill.FEATURE)
    name = f"The teacher {distill.TEACHER} (MODEL.PIXPRO.DISTILL.TEACHER)"
    _check_size(frozen, size, name)
    theirs, ours = map(_normalization, (InputConvention.from_config(cfg), frozen.input))
    conversion = InputConversion(theirs, ours)
    _, channels, height, width = probe_teacher(frozen.network, conversion.channels, (size, size), name)
    converted = "" if conversion.is_identity else f"; the views, {theirs}, become {ours}"
    shape = f"{channels} channels, {height} x {width} for a view of {size} x {size}"
    logger.info(f"{name}: {frozen.description}, {shape}{converted}.")
    return Teacher(frozen.network, conversion, channels)


def _normalization(convention: InputConvention) -> InputNormalization:
    return InputNormalization(convention.format, convention.pixel_mean, convention.pixel_std)


def _check_size(frozen: FrozenNetwork, size: int, name: str) -> None:
    if size % frozen.divisor:
        raise UsageError(
            f"INPUT.PIXPRO.CROP_SIZE is {size}, but {name[0].lower()}{name[1:]} needs a multiple of {frozen.divisor}: "
            f"choose a size that suits both networks, such as {_common_size(frozen.divisor, size)}."
        )


def _common_size(divisor: int, size: int) -> int:
    """Return the smallest multiple of ``divisor`` and of 32, the stride of most networks, that is at least ``size``."""
    step = math.lcm(divisor, 32)
    return -(-size // step) * step


def _check(cfg: CfgNode) -> None:
    """Raise a UsageError for keys that do not go together."""
    pixpro = cfg.MODEL.PIXPRO
    if not pixpro.IN_FEATURES:
        raise UsageError(
            "MODEL.PIXPRO.IN_FEATURES is empty, but MODEL.PIXPRO.DISTILL.WEIGHT is above 0: name the features that "
            "learn from the teacher."
        )
    if pixpro.DISTILL.VIEW == "same":
        return
    if cfg.INPUT.PIXPRO.N_FRAMES > 1:
        raise UsageError(
            f"INPUT.PIXPRO.N_FRAMES is {cfg.INPUT.PIXPRO.N_FRAMES}, but a teacher of the other view needs two views of "
            "one frame: set MODEL.PIXPRO.DISTILL.VIEW same, or N_FRAMES 1."
        )
    if pixpro.OFFICIAL_ROUNDING:
        raise UsageError(
            "MODEL.PIXPRO.OFFICIAL_ROUNDING is True, but a teacher of the other view needs the edges of the crops: set "
            "it False, or MODEL.PIXPRO.DISTILL.VIEW same."
        )
