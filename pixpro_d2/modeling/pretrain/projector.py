"""The projection MLP g of PixPro, applied to every pixel, and heads that serve several feature levels."""

from collections.abc import Callable

from torch import Tensor, nn

from ...utils.errors import UsageError

NormName = str | Callable[[int], nn.Module]  # detectron2's name of a norm, or a function of the number of channels


def norm_layer(norm: NormName, channels: int) -> nn.Module:
    """Build a norm layer by a function of the channels, or detectron2's by name; the identity for "" (no norm)."""
    if callable(norm):
        return norm(channels)
    if not norm:
        return nn.Identity()
    from detectron2.layers import get_norm  # PixelLearner gives functions, and works without detectron2

    try:
        return get_norm(norm, channels)
    except KeyError:
        raise UsageError(f"The norm of the heads is '{norm}', which is unknown: take BN, GN or ''.") from None


class Projector(nn.Sequential):
    """Project (N, C, H, W) to (N, out_channels, H, W) by conv1x1 - norm - ReLU - conv1x1 (official ``Proj_Head``).

    Convolutions keep PyTorch's default initialisation, as in the official code. The predictor of the instance branch
    has the same layers.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 4096, out_channels: int = 256, norm: NormName = "BN"
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, hidden_channels, 1),
            norm_layer(norm, hidden_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden_channels, out_channels, 1),
        )


class LevelHeads(nn.Module):
    """Hold one head for all feature levels, or one head for each level.

    ``heads[level]`` is the head of a level; a shared head is stored once.
    """

    def __init__(self, build: Callable[[int], nn.Module], channels: dict[str, int], shared: bool) -> None:
        """
        Args:
            build: makes a head for a number of input channels.
            channels: input channels of each level.
            shared: one head for all levels, which then need equal channels.
        """
        super().__init__()
        if shared and len(set(channels.values())) > 1:
            raise UsageError(
                f"MODEL.PIXPRO.IN_FEATURES have different numbers of channels {channels}, which one projector "
                "cannot serve: set MODEL.PIXPRO.SHARE_HEADS False."
            )
        self.shared = shared
        names = {"shared": next(iter(channels.values()))} if shared else channels
        self.heads = nn.ModuleDict({name: build(width) for name, width in names.items()})

    def __getitem__(self, level: str) -> nn.Module:
        return self.heads["shared" if self.shared else level]

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply to each level (N, C, H, W) its head."""
        return {level: self[level](feature) for level, feature in features.items()}
