"""The projection MLP g of PixPro, applied to every pixel, and heads that serve several feature levels."""

from torch import nn

from ...utils.errors import UsageError


def norm_layer(norm, channels):
    """The norm layer that a function of the channels builds, or detectron2's of a name; the identity for ""."""
    if callable(norm):
        return norm(channels)
    if not norm:
        return nn.Identity()
    from detectron2.layers import get_norm  # PixelLearner gives functions, and works without detectron2

    return get_norm(norm, channels)


class Projector(nn.Sequential):
    """conv1x1 - norm - ReLU - conv1x1 (official ``Proj_Head``); (N, C, H, W) to (N, out_channels, H, W).

    Convolutions keep PyTorch's default initialisation, as in the official code. Also the predictor of
    the instance branch.
    """

    def __init__(self, in_channels, hidden_channels=4096, out_channels=256, norm="BN"):
        super().__init__(
            nn.Conv2d(in_channels, hidden_channels, 1),
            norm_layer(norm, hidden_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden_channels, out_channels, 1),
        )


class LevelHeads(nn.Module):
    """One head for all feature levels, or one for each.

    ``heads[level]`` is the head of a level; a shared one is stored once.
    """

    def __init__(self, build, channels, shared):
        """
        Args:
            build (Callable[[int], nn.Module]): makes a head for a number of input channels.
            channels (dict[str, int]): input channels of each level.
            shared (bool): one head for all levels, which then need equal channels.
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

    def __getitem__(self, level):
        return self.heads["shared" if self.shared else level]

    def forward(self, features):
        """dict[str, Tensor] of (N, C, H, W) in, the same levels through their heads out."""
        return {level: self[level](feature) for level, feature in features.items()}
