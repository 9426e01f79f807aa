"""Networks of timm as backbones: features, sizes, and the networks that cannot be one."""

import sys

import pytest
import timm
import torch
from timm.layers import DropPath

from pixpro_d2.checkpoint.timm_networks import convention_of
from pixpro_d2.modeling.batch_norms import convert_batch_norms
from pixpro_d2.modeling.recompute import recompute_stages
from pixpro_d2.modeling.residual import zero_init_residual
from pixpro_d2.modeling.timm_backbone import TimmBackbone
from pixpro_d2.utils.errors import UsageError

# name -> (channels, stride) of each feature, from the papers
NETWORKS = {
    "convnext_atto": {"res2": (40, 4), "res3": (80, 8), "res4": (160, 16), "res5": (320, 32)},
    "swin_tiny_patch4_window7_224": {"res2": (96, 4), "res3": (192, 8), "res4": (384, 16), "res5": (768, 32)},
    "efficientnet_b0": {"stem": (16, 2), "res2": (24, 4), "res3": (40, 8), "res4": (112, 16), "res5": (320, 32)},
    "resnet18d": {"stem": (64, 2), "res2": (64, 4), "res3": (128, 8), "res4": (256, 16), "res5": (512, 32)},
    "vit_tiny_patch16_224": {"last_feat": (192, 16)},
    "vit_small_patch14_dinov2": {"last_feat": (384, 14)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_named_by_stride_and_every_weight_is_used(name):
    torch.manual_seed(0)
    backbone, expected = TimmBackbone(name), NETWORKS[name]
    shapes = {feature: (shape.channels, shape.stride) for feature, shape in backbone.output_shape().items()}
    assert shapes == expected
    divisor = max(stride for _, stride in expected.values())
    assert backbone.size_divisibility == divisor
    height, width = 2 * divisor, 3 * divisor
    maps = backbone(torch.randn(2, 3, height, width))
    assert list(maps) == list(expected)
    for feature, (channels, stride) in expected.items():
        assert maps[feature].shape == (2, channels, height // stride, width // stride)
    sum(x.square().sum() for x in maps.values()).backward()
    # DistributedDataParallel waits for the gradient of every weight.
    assert [name for name, weight in backbone.named_parameters() if weight.grad is None] == []


def test_nothing_is_random_in_training():
    """Exact resuming needs this, and recomputing too; timm's Swin has drop path by default."""
    name = "swin_tiny_patch4_window7_224"
    with torch.device("meta"):
        networks = timm.create_model(name), TimmBackbone(name).net
    theirs, ours = ([x.drop_prob for x in net.modules() if isinstance(x, DropPath)] for net in networks)
    assert max(theirs) > 0 and not any(ours)


def test_a_vision_transformer_takes_views_of_several_sizes():
    """A map of 14 x 14 patches has the position embeddings as they are; other maps have them resized."""
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224").eval()
    net = backbone.net
    given = []
    net.blocks[0].register_forward_hook(lambda module, inputs, output: given.append(inputs[0]))
    with torch.no_grad():
        net.pos_embed.normal_()
        for size in ((224, 224), (64, 96)):
            assert backbone(torch.zeros(1, 3, *size))["last_feat"].shape[2:] == (size[0] // 16, size[1] // 16)
        grid = net.pos_embed[:, 1:].view(1, 14, 14, 192).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(grid, (4, 6), mode="bicubic", antialias=True, align_corners=False)
        tokens = torch.cat([net.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], 1)
        bias = torch.cat([net.cls_token, net.patch_embed.proj.bias.expand(1, 24, 192)], 1)  # of black images
    assert torch.allclose(given[0][:, 1:], net.pos_embed[:, 1:] + net.patch_embed.proj.bias, atol=1e-5)
    assert torch.allclose(given[1], tokens + bias, atol=1e-4)


def test_patches_divide_the_images():
    backbone = TimmBackbone("vit_tiny_patch16_224")
    message = "has patches of 16 pixels, .* of 32 x 40 pixels: choose sides that are multiples of 16"
    with pytest.raises(UsageError, match=message):
        backbone(torch.zeros(1, 3, 32, 40))


def test_chosen_features_end_the_network():
    whole, part = TimmBackbone("resnet18d"), TimmBackbone("resnet18d", out_features=["res3", "res2"])
    assert list(part.output_shape()) == ["res2", "res3"] and part.size_divisibility == 8
    names = {name for name, _ in whole.named_parameters() if not name.startswith(("net.layer3", "net.layer4"))}
    assert {name for name, _ in part.named_parameters()} == names
    part.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(part.eval()(images)["res3"], whole.eval()(images)["res3"])


def test_a_smaller_output_stride_dilates_and_keeps_the_names():
    backbone = TimmBackbone("resnet18d", output_stride=16)
    assert {name: shape.stride for name, shape in backbone.output_shape().items()} == {
        "stem": 2, "res2": 4, "res3": 8, "res4": 16, "res5": 16,
    }  # fmt: skip
    assert backbone(torch.randn(1, 3, 64, 64))["res5"].shape == (1, 512, 4, 4)


def test_grey_images():
    assert TimmBackbone("mobilenetv3_small_050", in_channels=1)(torch.randn(2, 1, 32, 32))["res5"].shape[2:] == (1, 1)


def test_input_of_the_weights():
    mean = convention_of(TimmBackbone("vit_tiny_patch16_224").net).pixel_mean
    assert mean == (127.5, 127.5, 127.5)  # 0.5, timm's of this network
    std = convention_of(TimmBackbone("resnet18d", out_features=["stem"]).net).pixel_std
    assert std == pytest.approx((58.395, 57.12, 57.375))


def test_residual_blocks_start_as_the_identity_only_on_demand():
    backbone = TimmBackbone("resnet18d")
    last = [backbone.net.layer1[0].bn2, backbone.net.layer4[1].bn2]
    assert all(norm.weight.eq(1).all() for norm in last)
    zero_init_residual(backbone)
    assert all(norm.weight.eq(0).all() for norm in last) and backbone.net.layer1[0].bn1.weight.eq(1).all()
    frozen = TimmBackbone("resnet18d")
    convert_batch_norms(frozen, "FrozenBN")
    zero_init_residual(frozen)
    assert frozen.net.layer1[0].bn2.weight.eq(1).all()  # no training would change a 0


@pytest.mark.parametrize("name", ["resnet18d", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_recomputed_stages(name):
    """Equal losses, gradients and statistics, from less that is kept."""
    images, results = torch.randn(2, 3, 64, 64), []
    for recomputes in (False, True):
        torch.manual_seed(0)
        backbone, kept = TimmBackbone(name), {}
        if recomputes:
            recompute_stages(backbone)

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = list(backbone(images).values())[-1].square().mean()
        kept_bytes = sum(kept.values()) - sum(weight.nbytes for weight in backbone.parameters())
        loss.backward()
        gradients = {name: weight.grad for name, weight in backbone.named_parameters()}
        results.append((loss, gradients, dict(backbone.named_buffers()), kept_bytes))
    (loss, gradients, buffers, kept), (loss_again, gradients_again, buffers_again, kept_again) = results
    assert torch.equal(loss_again, loss) and kept_again < 0.6 * kept
    for expected, found in ((gradients, gradients_again), (buffers, buffers_again)):
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], x) for name, x in expected.items() if x is not None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "convnext_atom"}, r"timm \S+ has no network 'convnext_atom': did you mean convnext_atto or "),
        ({"name": "zzzzzzzzzz"}, r"has no network 'zzzzzzzzzz': timm.list_models\(\) has the names"),
        ({"name": "hiera_tiny_224"}, r"hiera_tiny_224 does not take images of any size \(with 64 x 96 pixels: "),
        ({"name": "nest_tiny"}, r"with 32 x 48 pixels: Input height \(32\) doesn't match model \(224\)\): choose"),
        ({"name": "levit_128s"}, "does not take images of any size"),
        ({"name": "maxvit_tiny_tf_224"}, r"height \(16\) must be divisible by window \(7\)"),
        ({"name": "beit_base_patch16_224"}, r"Input height \(32\) doesn't match"),
        ({"name": "tresnet_m"}, r"says that stem has the shape \(1, 64, 32, 48\) .* but it has \(1, 64, 16, 24\)"),
        ({"name": "convnext_atto", "out_features": ["stem"]}, "names 'stem', but convnext_atto has res2, res3, "),
        ({"name": "vit_tiny_patch16_224", "out_features": ["res5"]}, "vit_tiny_patch16_224 has last_feat: choose"),
        ({"name": "vit_tiny_patch16_224", "output_stride": 8}, "vit_tiny_patch16_224 cannot dilate its stages: set"),
    ],
)
def test_networks_that_cannot_be_a_backbone(arguments, message):
    with pytest.raises(UsageError, match=message):
        TimmBackbone(**arguments)


def test_timm_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"^Networks of timm need timm: run pip install 'pixpro_d2\[timm\]'\.$"):
        TimmBackbone("resnet18d")


def test_a_network_without_feature_maps(monkeypatch):
    """Networks of some versions of timm; an identity stands for such a network."""
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: torch.nn.Identity())
    with pytest.raises(UsageError, match="timm's resnet18 gives no feature maps: choose another network"):
        TimmBackbone("resnet18")
