"""Tokens of vision transformers as maps: the right places, and one sentence on what does not fit."""

import pytest
import timm
import torch
from learner_helpers import SMALL, Tokens, images
from torch import nn

from pixpro_d2 import PixelLearner
from pixpro_d2.learner.tokens import TokenMaps, tokens_to_map
from pixpro_d2.utils.errors import UsageError


@pytest.mark.parametrize("skipped", [0, 1, 5])
def test_each_token_is_at_the_place_of_its_patch(skipped):
    x = torch.rand(2, 3, 24, 32)
    maps = tokens_to_map(Tokens(8, skipped)(x), (24, 32), 8, "Layer 'x'")
    torch.testing.assert_close(maps, nn.functional.avg_pool2d(x, 8))
    torch.testing.assert_close(TokenMaps(Tokens(8, skipped), 8, "T")(x), maps)
    conv = nn.Conv2d(3, 4, 3)
    torch.testing.assert_close(TokenMaps(conv, 8, "T")(x), conv(x))  # already a map


def test_a_vision_transformer_of_timm_learns():
    """Blocks give a class token and 4 register tokens before the patches; timm's own map is the reference."""
    torch.manual_seed(0)
    options = dict(embed_dim=16, depth=2, num_heads=2, img_size=32, patch_size=8, num_classes=0)
    net = timm.create_model("vit_small_patch14_reg4_dinov2", **options)
    learner = PixelLearner(net, "norm", patch_size=8, **SMALL)
    x = torch.rand(2, 3, 32, 32)
    want = net.eval().forward_intermediates(x, indices=1, norm=True, intermediates_only=True)[0]
    torch.testing.assert_close(learner.backbone(x)["norm"], want)
    assert want.shape == (2, 16, 4, 4)
    loss, info = learner.train()(images())
    loss.backward()
    assert net.patch_embed.proj.weight.grad.any() and info["positive_pairs/norm"] > 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, r"^The network itself gives a tensor of shape \(2, 17, 3\) .* or give patch_size if these are the tokens"),
        (
            dict(patch_size=7),
            "^The network itself has patches of 7 pixels, which do not fill images of 32 x 32 pixels:",
        ),
        (dict(patch_size=16), "^The network itself gives 17 tokens, which are those of patches of 8 pixels, not of 16"),
        (dict(patch_size=0), "^The network itself has patches of 0 pixels"),
        (
            dict(patch_size=4),
            "^The network itself gives 17 tokens, but images of 32 x 32 pixels have 8 x 8 patches of 4",
        ),
    ],
)
def test_tokens_that_do_not_fit(options, message):
    with pytest.raises(UsageError, match=message):
        PixelLearner(Tokens(8), None, **SMALL, **options)
