"""The FCN head inside detectron2's SemanticSegmentor."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model

import configs
from pixpro_d2.modeling import FCNHead
from pixpro_d2.utils.errors import UsageError


def head(num_classes=3, num_convs=2, norm="BN"):
    return FCNHead(
        in_feature="res5", in_channels=4, stride=16, num_classes=num_classes, num_convs=num_convs, channels=6,
        dilation=6, norm=norm, loss_weight=0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def segmentor():
    torch.manual_seed(0)
    return build_model(configs.tiny("MODEL.WEIGHTS", "", config="cityscapes/fcn_R_50_90k.yaml"))


def test_the_paper_s_network(segmentor):
    """Two 3x3 convolutions of 256 channels with dilation 6 on 2048, at output stride 16; res5 dilated by 2."""
    net = segmentor.sem_seg_head
    shapes = [tuple(conv.weight.shape) for conv in net.convs]
    assert shapes == [(256, 2048, 3, 3), (256, 256, 3, 3)] and tuple(net.predictor.weight.shape) == (19, 256, 1, 1)
    assert all(conv.dilation == (6, 6) and conv.norm is not None for conv in net.convs) and net.stride == 16
    res5 = [block.conv2 for block in segmentor.backbone.res5]
    assert all(conv.stride == (1, 1) and conv.dilation == (2, 2) for conv in res5)


def test_size_of_the_result_is_the_image_s(segmentor):
    segmentor.eval()
    image = torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8)
    with torch.no_grad():
        (result,) = segmentor([{"image": image, "height": 100, "width": 142}])
    assert result["sem_seg"].shape == (19, 100, 142)


@pytest.mark.parametrize("height, width", [(64, 96), (65, 90)])
def test_loss_is_the_mean_over_labelled_pixels(height, width):
    torch.manual_seed(1)
    net = head().train()
    feature = torch.randn(2, 4, -(-height // 16), -(-width // 16))
    labels = torch.randint(0, 3, (2, height, width))
    labels[0, :40] = 255
    _, losses = net({"res5": feature}, labels)
    logits = F.interpolate(net.predictor(net.convs(feature)), scale_factor=16, mode="bilinear", align_corners=False)
    known = labels != 255
    picked = logits[..., :height, :width].log_softmax(1).permute(0, 2, 3, 1)[known]
    expected = -picked[torch.arange(len(picked)), labels[known]].mean() / 2
    assert torch.isclose(losses["loss_sem_seg"], expected, atol=1e-5)


def test_it_learns_a_map():
    """Left half one class, right half another, told apart by the feature."""
    torch.manual_seed(2)
    net = head(num_classes=2, num_convs=0)
    feature = torch.zeros(1, 4, 4, 4)
    feature[..., 2:] = 1
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[..., 32:] = 1
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        net({"res5": feature}, labels)[1]["loss_sem_seg"].backward()
        optimizer.step()
    net.eval()
    found = net({"res5": feature})[0].argmax(1)
    assert torch.equal(found[..., :31], labels[..., :31]) and torch.equal(found[..., 33:], labels[..., 33:])


def test_no_norm_means_a_bias():
    assert head(norm="").convs[0].bias is not None and head().convs[0].bias is None


@pytest.mark.parametrize("features", [["res4", "res5"], ["res3"]])
def test_wrong_features_are_named(features):
    cfg = configs.tiny("MODEL.SEM_SEG_HEAD.IN_FEATURES", features, config="cityscapes/fcn_R_50_90k.yaml")
    with pytest.raises(UsageError, match="SEM_SEG_HEAD.IN_FEATURES is .*one of the backbone's features res5"):
        FCNHead(cfg, {"res5": ShapeSpec(channels=8, stride=16)})


def test_a_batch_without_a_labelled_pixel_has_no_loss():
    """PyTorch's mean is NaN, for which all processes would skip the step."""
    net = head().train()
    feature = torch.randn(2, 4, 4, 4, requires_grad=True)
    loss = net({"res5": feature}, torch.full((2, 64, 64), 255))[1]["loss_sem_seg"]
    loss.backward()
    assert loss == 0 and not feature.grad.any()
