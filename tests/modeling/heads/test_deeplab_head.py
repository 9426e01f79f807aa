"""DeepLabV3's head: detectron2's numbers where detectron2 has any, and numbers for images of other sizes."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.projects.deeplab import DeepLabV3Head
from torch.nn import functional as F

import configs
from pixpro_d2.modeling import AnySizeDeepLabV3Head

FEATURES = {"res5": ShapeSpec(channels=6, stride=16)}


def config(*opts):
    return configs.tiny(
        "INPUT.CROP.SIZE", [64, 96], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3, "MODEL.SEM_SEG_HEAD.NORM", "BN",
        "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 8, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 8,
        "MODEL.SEM_SEG_HEAD.ASPP_DROPOUT", 0.0, *opts,
        config="cityscapes/deeplab_v3_R_50_40k.yaml",
    )  # fmt: skip


@pytest.fixture(scope="module")
def heads():
    """detectron2's head and ours with equal weights, for crops of 64 x 96 pixels: windows of 4 x 6 cells."""
    cfg = config()
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "AnySizeDeepLabV3Head"
    torch.manual_seed(0)
    theirs, ours = (kind(cfg, FEATURES) for kind in (DeepLabV3Head, AnySizeDeepLabV3Head))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def features(height, width):
    return {"res5": torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize(("height", "width"), [(4, 6), (8, 12)])
def test_it_is_detectron2s_head(heads, height, width):
    theirs, ours = (head.eval() for head in heads)
    x = features(height, width)
    assert torch.equal(ours(x)[0], theirs(x)[0])
    targets = torch.randint(0, 3, (2, 16 * height, 16 * width), generator=torch.Generator().manual_seed(2))
    targets[:, :5] = 255
    found, expected = (head.train()(x, targets)[1]["loss_sem_seg"] for head in (ours, theirs))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("height", "width"), [(5, 9), (3, 7), (2, 3)])
def test_images_of_other_sizes(heads, height, width):
    """Such as 720 x 1280 pixels for crops of 512 x 1024, at which detectron2's head raises a ValueError."""
    theirs, ours = (head.eval() for head in heads)
    x = features(height, width)
    with pytest.raises(ValueError, match="pool_kernel_size"):
        theirs(x)
    window = min(4, height), min(6, width)
    pooled = ours.aspp.convs[-1][1](F.avg_pool2d(x["res5"], window, stride=1))
    found = ours.aspp.convs[-1](x["res5"])
    torch.testing.assert_close(found, pooled)
    assert ours(x)[0].shape == (2, 3, 16 * height, 16 * width)


def test_crops_that_fill_no_whole_cells(heads):
    """The cells of images of 37 x 90 pixels reach to 48 x 96."""
    ours = heads[1].eval()
    x, targets = features(3, 6), torch.randint(0, 3, (2, 37, 90), generator=torch.Generator().manual_seed(2))
    logits = ours(x)[0][..., :37, :90]
    losses = ours.losses(ours.predictor(ours.aspp(x["res5"])), targets)
    torch.testing.assert_close(losses["loss_sem_seg"], F.cross_entropy(logits, targets))
    targets.fill_(255)
    assert ours.losses(ours.predictor(ours.aspp(x["res5"])), targets)["loss_sem_seg"] == 0


@pytest.mark.parametrize("stride", [8, 14, 32])
def test_the_stride_is_that_of_the_feature(stride):
    """Windows and upsampling fit the feature, whatever COMMON_STRIDE, which is 16 in the config."""
    ours = AnySizeDeepLabV3Head(config(), {"res5": ShapeSpec(channels=6, stride=stride)}).eval()
    assert ours.aspp.convs[-1][0].size == {8: (8, 12), 14: (5, 7), 32: (2, 3)}[stride]
    assert ours(features(3, 6))[0].shape == (2, 3, 3 * stride, 6 * stride)


def test_hard_pixels_of_crops_that_fill_no_whole_cells():
    ours = AnySizeDeepLabV3Head(config("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "hard_pixel_mining"), FEATURES).eval()
    x, targets = features(3, 6), torch.randint(0, 3, (2, 37, 90), generator=torch.Generator().manual_seed(2))
    pixels = F.cross_entropy(ours(x)[0][..., :37, :90], targets, reduction="none").flatten()
    hardest = pixels.sort(descending=True).values[: 2 * 37 * 90 // 5]
    found = ours.losses(ours.predictor(ours.aspp(x["res5"])), targets)["loss_sem_seg"]
    torch.testing.assert_close(found, hardest.mean())
