"""The simple feature pyramid of ViTDet (Li et al. 2022), on the last map of a plain vision transformer.

detectron2 after v0.6 has this pyramid, v0.6 does not; the names of the weights are detectron2's.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Normalise the channels of each pixel of maps (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class SimpleFeaturePyramid(Backbone):
    """Make levels p2, p3 ... of one map by deconvolutions and pooling, each with two convolutions behind it.

    The modules of level ``p2`` are ``simfp_2``. Unlike an FPN, the pyramid has no connections between its levels.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_feature: str,
        levels: Sequence[int],
        out_channels: int,
        top_block: Any = None,
    ) -> None:
        """
        Args:
            bottom_up: a backbone whose feature ``in_feature`` has a stride of a power of two.
            in_feature: name of the map.
            levels: numbers of the levels from fine to coarse; level n has the stride 2 ** n.
            out_channels: channels of each level.
            top_block: detectron2's LastLevelMaxPool or LastLevelP6P7, which makes more levels of the coarsest one.
        """
        super().__init__()
        self.bottom_up = bottom_up
        self.in_feature = in_feature
        self.top_block = top_block
        self._levels = list(levels)
        shape = bottom_up.output_shape()[in_feature]
        for level in self._levels:
            doublings = int(math.log2(shape.stride)) - level
            self.add_module(f"simfp_{level}", build_level(shape.channels, out_channels, doublings))
        last = self._levels[-1]
        tops = range(last + 1, last + 1 + (top_block.num_levels if top_block is not None else 0))
        self._shapes = {f"p{n}": ShapeSpec(channels=out_channels, stride=2**n) for n in (*self._levels, *tops)}
        self._out_features = list(self._shapes)
        self._size_divisibility = max(2**last, shape.stride, bottom_up.size_divisibility)

    @property
    def size_divisibility(self) -> int:
        """Return the number of pixels that the sides of images must be a multiple of."""
        return self._size_divisibility

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels (N, out_channels, H / stride, W / stride) of images (N, C, H, W)."""
        x = self.bottom_up(images)[self.in_feature]
        maps = [self.get_submodule(f"simfp_{level}")(x) for level in self._levels]
        if self.top_block is not None:
            maps += self.top_block(maps[-1])
        return dict(zip(self._out_features, maps))


def build_level(in_channels: int, out_channels: int, doublings: int) -> nn.Sequential:
    """Build the modules of one level, whose map has 2 ** ``doublings`` times the sides of its input.

    Each deconvolution doubles the sides and halves the channels; a norm and GELU stand between two. A negative number
    is a max pooling.
    """
    layers: list[nn.Module] = []
    channels = in_channels
    for i in range(doublings):
        if i > 0:
            layers += [LayerNorm2d(channels, eps=1e-6), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels //= 2
    if doublings < 0:
        layers.append(nn.MaxPool2d(kernel_size=2**-doublings, stride=2**-doublings))
    for kernel, width in ((1, channels), (3, out_channels)):
        norm = LayerNorm2d(out_channels, eps=1e-6)
        layers.append(Conv2d(width, out_channels, kernel, padding=kernel // 2, bias=False, norm=norm))
    return nn.Sequential(*layers)
