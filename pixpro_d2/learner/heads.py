"""Method, heads and instance branch from the learner's options, as TwoBranch's arguments."""

from ..modeling.backbone import last_feature_channels
from ..modeling.pretrain.instance import InstanceBranch
from ..modeling.pretrain.methods import PixContrastMethod, PixelMethod, PixProMethod
from ..modeling.pretrain.ppm import PixelPropagation
from ..modeling.pretrain.projector import LevelHeads, Projector
from ..utils.errors import UsageError, check_choice
from .norm import head_norm


def build_method(method, mean_over, temperature):
    """The pixel loss that ``method`` (``pixpro``, ``pixcontrast`` or a PixelMethod) names."""
    if isinstance(method, PixelMethod):
        return method
    check_choice("method", method, ("pixpro", "pixcontrast"))
    check_choice("mean_over", mean_over, ("all", "matched"))
    return PixProMethod(mean_over) if method == "pixpro" else PixContrastMethod(temperature)


def build_projector(channels, hidden_dim, out_dim, norm, share_heads):
    """A projector for each level of ``channels``, dict[str, int]; one for all if ``share_heads``, or if it is None
    and their channels are equal."""
    equal = len(set(channels.values())) == 1
    if share_heads and not equal:
        raise UsageError(f"share_heads is True, but the layers have different numbers of channels {channels}.")
    shared = equal if share_heads is None else share_heads
    return LevelHeads(lambda width: Projector(width, hidden_dim, out_dim, head_norm(norm)), channels, shared)


def build_ppm(levels, out_dim, num_layers, gamma, norm, shared, normalize_values=True):
    """A pixel propagation module for each of ``levels``, or one for all."""
    check_choice("ppm_num_layers", num_layers, (0, 1, 2))
    if gamma <= 0:
        raise UsageError(f"ppm_gamma is {gamma}; it must be positive.")
    return LevelHeads(
        lambda width: PixelPropagation(width, num_layers, gamma, head_norm(norm), normalize_values),
        dict.fromkeys(levels, out_dim),
        shared,
    )


def build_instance_branch(backbone, hidden_dim, out_dim, loss, temperature, norm):
    """Instance branch on the last feature of ``backbone``."""
    check_choice("instance_loss", loss, ("byol", "infonce"))
    channels = last_feature_channels(backbone)
    return InstanceBranch(channels, hidden_dim, out_dim, loss, temperature, head_norm(norm))
