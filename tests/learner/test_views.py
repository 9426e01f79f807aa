"""The learner's two views: geometry, augmentation and normalisation in one pass, and the checks of their options."""

import numpy as np
import pytest
import torch
from learner_helpers import images, seeded, small_learner
from torch import nn

from pixpro_d2.data.pretrain.device_photometric import DevicePhotometric
from pixpro_d2.data.pretrain.device_views import numpy_rng, render_views, sample_boxes
from pixpro_d2.data.pretrain.photometric import POLICIES
from pixpro_d2.learner.views import view_size
from pixpro_d2.modeling.pretrain.correspondence import bin_centers
from pixpro_d2.utils.errors import UsageError


def test_views_are_crop_augmentation_normalisation():
    learner = small_learner(augment="byol", image_size=(24, 32), min_scale=0.3)
    x = images(size=(40, 60))
    views, boxes = learner.views(x, seeded())
    rng = numpy_rng(seeded())
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for policy, view, box in zip(POLICIES["byol"], views, boxes):
        pixels = sample_boxes(rng, 4, (40, 60), min_scale=0.3)
        expected = DevicePhotometric(policy)(render_views(x, pixels, (24, 32)), rng)
        torch.testing.assert_close(view, (expected - mean) / std)
        torch.testing.assert_close(box, pixels / torch.tensor([60.0, 40.0, 60.0, 40.0]))
    assert not torch.equal(boxes[0], boxes[1])


def test_each_image_has_its_own_box_in_the_units_asked_for():
    normalized = small_learner().views(images(64), seeded())[1]
    pixels = small_learner(distance_units="pixel").views(images(64), seeded())[1]
    for box, pixel in zip(normalized, pixels):
        assert len({tuple(row) for row in pixel.tolist()}) == 64
        torch.testing.assert_close(box * torch.tensor([48.0, 40.0, 48.0, 40.0]), pixel)
        assert (pixel[:, 0] > pixel[:, 2]).sum() in range(15, 50)  # mirrored by half
        assert torch.equal(pixel, pixel.round())


def test_the_boxes_say_where_the_pixels_come_from():
    # A ramp over the image instead of a picture: the views hold the coordinates of their own pixels.
    y, x = torch.meshgrid((torch.arange(80) + 0.5) / 80, (torch.arange(96) + 0.5) / 96, indexing="ij")
    ramp = torch.stack([x, y]).expand(8, -1, -1, -1)
    learner = small_learner(in_channels=2, augment="none", mean=(0.0, 0.0), std=(1.0, 1.0), image_size=20)
    for view, box in zip(*learner.views(ramp, seeded())):
        expected = bin_centers(box, (20, 20)).transpose(1, 2).unflatten(2, (20, 20))
        assert (view - expected)[..., 1:-1, 1:-1].abs().max() < 1e-3


def test_callables_replace_the_preset():
    class Shift(nn.Module):
        def forward(self, x):
            return x + 1

    shift, black = Shift(), torch.zeros_like
    views, _ = small_learner(augment=(shift, black), mean=(0.0,) * 3, std=(0.5,) * 3).views(images(), seeded())
    plain, _ = small_learner(augment=(nn.Identity(), black), mean=(0.0,) * 3, std=(0.5,) * 3).views(images(), seeded())
    torch.testing.assert_close(views[0], plain[0] + 2)
    assert views[1].abs().max() == 0


def test_reproducible():
    learner = small_learner()
    first, second = (learner.views(images(), seeded()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[0] + first[1], second[0] + second[1]))
    torch.manual_seed(3)
    third = learner.views(images())
    assert all(torch.equal(a, b) for a, b in zip(first[0], third[0]))
    fourth = learner.views(images())
    assert not torch.equal(first[0][0], fourth[0][0])


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels_are_normalised_as_grey(channels):
    learner = small_learner(in_channels=channels, augment="none")
    views, _ = learner.views(torch.full((2, channels, 40, 40), 0.675), seeded())
    np.testing.assert_allclose(views[0], 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(augment="simclr2"), "augment is 'simclr2'; it must be byol, mocov2, simclr or none"),
        (dict(augment=nn.Identity()), "augment is Identity.*pair of callables"),
        (dict(augment=("byol", "byol")), "pair of callables"),
        (dict(mean=(0.5,)), "mean and std have 1 and 3 values for images of 3 channels"),
        (
            dict(mean=(123.7, 116.3, 103.5)),
            r"^mean is \(123.7, .* but the images have values in \[0, 1\]: divide values",
        ),
        (dict(mean=(0.0,) * 3, std=(255.0,) * 3), r"and std \(255.0, 255.0, 255.0\), but the images have values"),
        (dict(std=(0.2, 0.0, 0.2)), r"^std is \(0.2, 0.0, 0.2\); it must be positive"),
        (
            dict(ratio_range=(4 / 3, 0.75)),
            r"^ratio_range is \(1.3.*, 0.75\); it must be two positive numbers, the second",
        ),
        (dict(flip_p=1.5), "^flip_p is 1.5; it must be between 0 and 1"),
        (dict(image_size=64.0), "^image_size is 64.0; it must be a positive integer or a pair"),
        (dict(image_size=(64, 64, 3)), r"^image_size is \(64, 64, 3\); it must be"),
        (dict(image_size=(0, 64)), r"^image_size is \(0, 64\); it must be"),
        (dict(min_scale=0.0), "min_scale is 0.0 and max_scale 1.0"),
        (dict(min_scale=0.6, max_scale=0.5), "min_scale is 0.6 and max_scale 0.5"),
        (dict(max_scale=1.5), "max_scale 1.5"),
        (dict(distance_units="feet"), "distance_units is 'feet'; it must be normalized or pixel"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(UsageError, match=message):
        small_learner(**options)


def test_a_size_of_any_integers():
    assert view_size(np.int64(64)) == (64, 64) and view_size([32, np.int64(48)]) == (32, 48)


@pytest.mark.parametrize("x", [torch.rand(3, 40, 40), torch.rand(2, 1, 40, 40), torch.zeros(2, 3, 9, 9).byte()])
def test_images_that_do_not_fit(x):
    with pytest.raises(UsageError, match=r"takes float images \(N, 3, H, W\)"):
        small_learner()(x)
