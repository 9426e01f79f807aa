"""ViTDet's simple feature pyramid: names, shapes, and that each level looks at the pixels below it."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from pixpro_d2.modeling.simple_pyramid import LayerNorm2d, SimpleFeaturePyramid, build_level


class Patches(Backbone):
    """One map of 8 channels, each bin from its own pixels."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride
        self.embed = nn.Conv2d(3, 8, stride, stride)

    def output_shape(self):
        return {"map": ShapeSpec(channels=8, stride=self.stride)}

    def forward(self, images):
        return {"map": self.embed(images)}


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_levels_have_their_strides_whatever_the_stride_of_the_map(stride):
    pyramid = SimpleFeaturePyramid(Patches(stride), "map", [2, 3, 4, 5], 6, LastLevelMaxPool())
    assert pyramid.size_divisibility == 32
    maps = pyramid(torch.randn(2, 3, 64, 96))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {
        "p2": (2, 6, 16, 24),
        "p3": (2, 6, 8, 12),
        "p4": (2, 6, 4, 6),
        "p5": (2, 6, 2, 3),
        "p6": (2, 6, 1, 2),
    }
    assert {name: (x.channels, x.stride) for name, x in pyramid.output_shape().items()} == {
        f"p{n}": (6, 2**n) for n in range(2, 7)
    }
    assert torch.equal(maps["p6"], maps["p5"][..., ::2, ::2])


def test_weights_have_the_names_and_shapes_of_detectron2():
    """As in detectron2's SimpleFeaturePyramid(scale_factors=(4.0, 2.0, 1.0, 0.5), norm="LN")."""
    pyramid = SimpleFeaturePyramid(Patches(16), "map", [2, 3, 4, 5], 6)
    shapes = {n: tuple(x.shape) for n, x in pyramid.state_dict().items() if not n.startswith("bottom_up.")}
    convs = {"simfp_2": (4, 2), "simfp_3": (1, 4), "simfp_4": (0, 8), "simfp_5": (1, 8)}  # place, and channels before
    expected = {
        "simfp_2.0.weight": (8, 4, 2, 2), "simfp_2.0.bias": (4,), "simfp_2.1.weight": (4,), "simfp_2.1.bias": (4,),
        "simfp_2.3.weight": (4, 2, 2, 2), "simfp_2.3.bias": (2,),
        "simfp_3.0.weight": (8, 4, 2, 2), "simfp_3.0.bias": (4,),
    }  # fmt: skip
    for level, (place, channels) in convs.items():
        expected[f"{level}.{place}.weight"] = (6, channels, 1, 1)
        expected[f"{level}.{place + 1}.weight"] = (6, 6, 3, 3)
        for i in (place, place + 1):
            expected[f"{level}.{i}.norm.weight"] = expected[f"{level}.{i}.norm.bias"] = (6,)
    assert shapes == expected


def test_p6_and_p7_are_convolutions_of_the_coarsest_level():
    pyramid = SimpleFeaturePyramid(Patches(16), "map", [3, 4, 5], 6, LastLevelP6P7(6, 6, "p5"))
    maps = pyramid(torch.randn(1, 3, 64, 64))
    assert list(maps) == list(pyramid.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert torch.equal(maps["p6"], pyramid.top_block.p6(maps["p5"])) and maps["p7"].shape == (1, 6, 1, 1)


@pytest.mark.parametrize("doublings", [2, 1, 0, -1])
def test_a_bin_of_a_level_lies_where_its_bin_of_the_map_lies(doublings):
    """Without the 3 x 3 convolution, a changed bin of the map changes exactly the bins of a level over it."""
    torch.manual_seed(0)
    level = build_level(8, 6, doublings)[:-1]
    x = torch.randn(1, 8, 4, 4)
    other = x.clone()
    other[..., 2, 1] += 100
    changed = (level(x) != level(other)).any(1)[0]
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[2, 1] = True
    if doublings >= 0:
        expected = expected.repeat_interleave(2**doublings, 0).repeat_interleave(2**doublings, 1)
    else:
        expected = expected.view(2, 2, 2, 2).any(3).any(1)
    assert torch.equal(changed, expected)


def test_layer_norm_is_over_the_channels_of_each_pixel():
    norm = LayerNorm2d(5, eps=1e-6)
    norm.weight.data.uniform_(), norm.bias.data.uniform_()
    x = torch.randn(2, 5, 3, 4)
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (var + 1e-6).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    assert torch.allclose(norm(x), expected, atol=1e-5)
