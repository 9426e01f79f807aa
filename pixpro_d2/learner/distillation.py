"""The distillation from the learner's options."""

from collections.abc import Sequence

from torch import nn

from ..modeling.pretrain.agreement import LOSSES
from ..modeling.pretrain.distillation import Distillation
from ..modeling.pretrain.projector import LevelHeads, NormName, Projector
from ..modeling.pretrain.teacher import InputConversion, InputNormalization, Teacher, probe_teacher
from ..utils.errors import UsageError, check_choice
from .norm import head_norm
from .tokens import TokenMaps
from .views import Normalize, TwoViews


def build_teacher(
    network: nn.Module,
    views: TwoViews,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    patch_size: int | None,
) -> Teacher:
    """Make a network a teacher, which takes the normalised views.

    Args:
        network: normalised images (N, C, H, W) to a map (N, D, h, w), or with ``patch_size`` to tokens (N, L, D).
        views: the student's views.
        mean, std: of the network's images in [0, 1], one value for each channel; None is ImageNet's.
    """
    theirs = Normalize(3 if mean is None else len(mean), mean, std, "teacher_", views.any_range)
    conversion = InputConversion(_normalization(views.normalize), _normalization(theirs))
    if patch_size is not None:
        network = TokenMaps(network, patch_size, "The teacher")
    advice = "wrap the teacher in a module that returns such a map, or give teacher_patch_size for tokens (N, L, C)"
    shape = probe_teacher(network, conversion.channels, views.size, "The teacher", advice)
    return Teacher(network, conversion, shape[1])


def _normalization(normalize: Normalize) -> InputNormalization:
    # The learner does not know the order of the channels, which is the same for student and teacher.
    return InputNormalization("", normalize.mean.flatten().tolist(), normalize.std.flatten().tolist())


def build_distillation(
    teacher: Teacher,
    channels: dict[str, int],
    hidden_dim: int,
    norm: NormName,
    shared: bool,
    weight: float,
    view: str,
    loss: str,
) -> Distillation:
    """Build the distillation of the levels of ``channels``, with one projector for all levels if ``shared``."""
    check_choice("distill_view", view, ("other", "same"))
    check_choice("distill_loss", loss, LOSSES)
    if weight <= 0:
        raise UsageError(f"distill_weight is {weight}; it must be above 0, or give no teacher.")
    projector = LevelHeads(
        lambda width: Projector(width, hidden_dim, teacher.channels, head_norm(norm)), channels, shared
    )
    return Distillation(teacher, projector, weight, view, loss)
