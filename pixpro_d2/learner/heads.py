"""Method, heads and instance branch from the learner's options, as TwoBranch's arguments."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import nn

from ..modeling.backbone import last_feature_channels
from ..modeling.pretrain.instance import InstanceBranch
from ..modeling.pretrain.methods import PixContrastMethod, PixelMethod, PixProMethod
from ..modeling.pretrain.ppm import PixelPropagation
from ..modeling.pretrain.projector import LevelHeads, NormName, Projector
from ..utils.errors import UsageError, check_choice
from .norm import head_norm

if TYPE_CHECKING:
    from detectron2.modeling import Backbone


def check_positive(**values: float | None) -> None:
    """Raise a UsageError for the first option whose value is not above 0; None is no value."""
    for name, value in values.items():
        if value is not None and not value > 0:  # NaN neither
            raise UsageError(f"{name} is {value}; it must be positive.")


def check_not_negative(**values: float) -> None:
    """Raise a UsageError for the first option whose value is below 0."""
    for name, value in values.items():
        if not value >= 0:
            raise UsageError(f"{name} is {value}; it must be at least 0.")


def build_method(method: str | PixelMethod, mean_over: str, temperature: float) -> PixelMethod:
    """Build the pixel loss ``method`` (``pixpro`` or ``pixcontrast``), or return it if it is a PixelMethod."""
    if isinstance(method, PixelMethod):
        return method
    if isinstance(method, type):
        raise UsageError(f"method is the class {method.__name__}: give an object of the class.")
    check_choice("method", method, ("pixpro", "pixcontrast"))
    check_choice("mean_over", mean_over, ("all", "matched"))
    return PixProMethod(mean_over) if method == "pixpro" else PixContrastMethod(temperature)


def build_projector(
    channels: dict[str, int],
    hidden_dim: int,
    out_dim: int,
    norm: NormName,
    share_heads: bool | None,
    build: Callable[[int, int, int, NormName], nn.Module] = Projector,
) -> LevelHeads:
    """Build a projector for each level of ``channels``, or one projector for all levels with ``share_heads``.

    If ``share_heads`` is None, the levels share a projector if their channels are equal. ``build`` makes a projector,
    see :meth:`pixpro_d2.modeling.pretrain.methods.base.PixelMethod.build_projector`.
    """
    equal = len(set(channels.values())) == 1
    if share_heads and not equal:
        raise UsageError(f"share_heads is True, but the layers have different numbers of channels {channels}.")
    shared = equal if share_heads is None else share_heads
    return LevelHeads(lambda width: build(width, hidden_dim, out_dim, head_norm(norm)), channels, shared)


def build_ppm(
    levels: Iterable[str],
    out_dim: int,
    num_layers: int,
    gamma: float,
    norm: NormName,
    shared: bool,
    normalize_values: bool = True,
) -> LevelHeads:
    """Build a pixel propagation module for each of ``levels``, or one module for all levels if ``shared``."""
    check_choice("ppm_num_layers", num_layers, (0, 1, 2))
    check_positive(ppm_gamma=gamma)
    return LevelHeads(
        lambda width: PixelPropagation(width, num_layers, gamma, head_norm(norm), normalize_values),
        dict.fromkeys(levels, out_dim),
        shared,
    )


def build_instance_branch(
    backbone: "Backbone", hidden_dim: int, out_dim: int, loss: str, temperature: float, norm: NormName
) -> InstanceBranch:
    """Build an instance branch on the last feature of ``backbone``, a detectron2 backbone or LayerFeatures."""
    check_choice("instance_loss", loss, ("byol", "infonce"))
    channels = last_feature_channels(backbone)
    return InstanceBranch(channels, hidden_dim, out_dim, loss, temperature, head_norm(norm))
