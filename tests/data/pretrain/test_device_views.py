"""Batched crops and flips of tensors: boxes, exact resizing, and pixels that lie where the boxes say."""

import numpy as np
import pytest
import torch
from data_helpers import noise
from PIL import Image
from torchvision.transforms.v2 import functional as F

from pixpro_d2.data.pretrain.device_views import numpy_rng, render_views, sample_boxes
from pixpro_d2.data.pretrain.views import View, sample_view
from pixpro_d2.modeling.pretrain.correspondence import bin_centers


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255).permute(2, 0, 1)


def boxes_of(views):
    return torch.from_numpy(np.stack([view.box for view in views]))


def test_boxes_are_those_of_the_cpu_views():
    boxes = sample_boxes(np.random.default_rng(3), 5, (40, 60), min_scale=0.2)
    rng = np.random.default_rng(3)
    assert boxes.tolist() == [sample_view(rng, 60, 40, 0.2).box.tolist() for _ in range(5)]
    assert len({tuple(box) for box in boxes.tolist()}) == 5  # each image has its own


def test_crop_options():
    rng = np.random.default_rng(0)
    crop = dict(min_scale=0.25, max_scale=0.25, ratio_range=(2.0, 2.0), flip_p=1.0)
    x0, y0, x1, y1 = sample_boxes(rng, 50, (200, 200), **crop).T
    assert (x1 < x0).all()
    assert (x0 - x1).tolist() == [141] * 50 and (y1 - y0).tolist() == [71] * 50  # area 10000, twice as wide as high
    x0, _, x1, _ = sample_boxes(rng, 50, (200, 200), min_scale=0.1, flip_p=0.0).T
    assert (x1 > x0).all()
    # A ratio that never fits: the largest central crop that has it.
    square = sample_boxes(rng, 3, (50, 100), min_scale=1.0, ratio_range=(1.0, 1.0), flip_p=0.0)
    assert square.tolist() == [[25, 0, 75, 50]] * 3


def test_randomness_follows_torchs():
    torch.manual_seed(5)
    first = numpy_rng().random(3)
    torch.manual_seed(5)
    assert (numpy_rng().random(3) == first).all() and (numpy_rng().random(3) != first).all()
    generator = torch.Generator().manual_seed(5)
    again = torch.Generator().manual_seed(5)
    assert (numpy_rng(generator).random(3) == numpy_rng(again).random(3)).all()


# Down, up, and one of each in an image of 60 x 44 pixels, to views of 24 x 32.
VIEWS = [
    View(0, 0, 60, 44, flip=False),
    View(5, 3, 50, 41, flip=True),
    View(20, 30, 9, 7, flip=False),
    View(51, 0, 9, 40, flip=True),
    View(13, 8, 32, 24, flip=False),
]


def test_pixels_are_torchvisions():
    images = torch.rand(len(VIEWS), 3, 44, 60, generator=torch.Generator().manual_seed(0))
    views = render_views(images, boxes_of(VIEWS), (24, 32))
    for view, image, got in zip(VIEWS, images, views):
        expected = F.resized_crop(image, view.top, view.left, view.height, view.width, [24, 32], antialias=True)
        expected = F.horizontal_flip(expected) if view.flip else expected
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)
    assert torch.equal(views[4], images[4, :, 8:32, 13:45])  # neither resized nor flipped: the pixels themselves


def test_pixels_are_those_of_the_cpu_views():
    image = Image.fromarray(noise(0, 44, 60))
    views = render_views(to_tensor(image).expand(len(VIEWS), -1, -1, -1), boxes_of(VIEWS), (32, 32))
    for view, got in zip(VIEWS, views):
        # Views on the CPU are rounded to 8 bits after each axis.
        torch.testing.assert_close(got, torch.from_numpy(view.render(image, 32)) / 255, atol=1.01 / 255, rtol=0)


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_channels(channels):
    images = torch.rand(2, channels, 30, 20)
    views = render_views(images, boxes_of(VIEWS[2:3] * 2) * 0.5, (8, 8))
    assert views.shape == (2, channels, 8, 8) and views.is_contiguous()
    for channel in range(channels):
        alone = render_views(images[:, channel : channel + 1], boxes_of(VIEWS[2:3] * 2) * 0.5, (8, 8))
        torch.testing.assert_close(views[:, channel : channel + 1], alone)


def test_pixels_lie_where_the_boxes_say():
    # Pixel centres of a coordinate image, cropped, are the bin centres that the loss takes from the box.
    height, width = 90, 120
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    boxes = sample_boxes(np.random.default_rng(1), 16, (height, width), min_scale=0.08)
    assert (boxes[:, 0] > boxes[:, 2]).any() and (boxes[:, 0] < boxes[:, 2]).any()
    grid = (14, 18)
    got = render_views(torch.stack([x, y]).expand(16, -1, -1, -1), boxes, grid)
    expected = bin_centers(boxes, grid).transpose(1, 2).unflatten(2, grid)
    # A filter sampled at pixels is not quite symmetric. At its edges a crop is continued by its outermost pixels,
    # which shortens the outermost steps.
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(got[inner], expected[inner], atol=0.06, rtol=0)
    size = (boxes[:, 2:] - boxes[:, :2]).abs()
    bin_size = (size / torch.tensor([18.0, 14.0])).clamp(min=1)
    assert ((got - expected).abs().amax(dim=(2, 3)) < 0.5 * bin_size).all()


def test_full_precision_under_autocast():
    images = torch.rand(1, 3, 44, 60)
    expected = render_views(images, boxes_of(VIEWS[1:2]), (24, 32))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(render_views(images, boxes_of(VIEWS[1:2]), (24, 32)), expected)
