"""The geometry of a view: its box, its pixels, and how it is drawn."""

import numpy as np
import pytest
import torch
from data_helpers import assert_same_distribution, noise
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from pixpro_d2.data.pretrain.views import (
    ATTEMPTS,
    RATIO,
    View,
    common_area,
    overlap,
    sample_pair,
    sample_second,
    sample_view,
)
from pixpro_d2.modeling.pretrain.correspondence import BoxCorrespondence, box_overlap, normalize_boxes

DRAWS = 5000


def test_box():
    box = View(left=64, top=48, width=320, height=240, flip=False).box
    assert box.dtype == np.float32 and box.tolist() == [64, 48, 384, 288]
    box = View(left=64, top=48, width=320, height=240, flip=True).box
    assert box.dtype == np.float32 and box.tolist() == [384, 48, 64, 288]


@pytest.mark.parametrize("flip", [pytest.param(False, id="T16"), pytest.param(True, id="T16-flip")])
def test_box_in_official_coordinates(flip):
    view = View(left=64, top=48, width=320, height=240, flip=flip)
    box, image_size = torch.from_numpy(view.box)[None], torch.tensor([[480.0, 640.0]])
    boxes = normalize_boxes(box, image_size, official_rounding=True)
    x0, y0, x1, y1 = 0.100156, 0.100209, 0.599374, 0.599165
    expected = [x1, y0, x0, y1] if flip else [x0, y0, x1, y1]
    assert boxes[0].tolist() == pytest.approx(expected, abs=1e-6)
    official = [64 / 639, 48 / 479, (64 + 320 - 1) / 639, (48 + 240 - 1) / 479]
    assert sorted(boxes[0].tolist()) == pytest.approx(sorted(official), abs=1e-6)


# width, height
SIZES = [(2, 2), (2, 300), (300, 2), (2, 3), (3, 2), (5, 4), (31, 97), (97, 31), (640, 480), (333, 500)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (1e-6, 1e-6), (1.0, 1.0)])
def test_a_view_is_inside_the_image(width, height, scale):
    rng = np.random.default_rng(0)
    for _ in range(200):
        view = sample_view(rng, width, height, *scale)
        assert view.left >= 0 and view.top >= 0 and view.width >= 1 and view.height >= 1
        assert view.left + view.width <= width and view.top + view.height <= height
        assert all(type(value) is int for value in (view.left, view.top, view.width, view.height))


@pytest.mark.parametrize(("width", "height"), [(2, 300), (300, 2), (7, 99), (99, 7), (150, 100), (100, 150)])
def test_the_crop_that_is_left_when_none_fits(width, height):
    # With the whole area and a ratio of at most 4/3, no draw fits an oblong image.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        top, left, h, w = RandomResizedCrop.get_params(Image.new("L", (width, height)), (1.0, 1.0), RATIO)
    for seed in range(20):
        view = sample_view(np.random.default_rng(seed), width, height, 1.0)
        assert (view.left, view.top, view.width, view.height) == (left, top, w, h)


def test_ten_attempts():
    # An image so oblong that few draws fit: the share of fallbacks tells the number of attempts.
    width, height, scale = 200, 40, (0.08, 1.0)
    fallback = sample_view(np.random.default_rng(0), width, height, 1.0)
    rng = np.random.default_rng(1)
    views = [sample_view(rng, width, height, *scale) for _ in range(3000)]
    share = np.mean([view.width == fallback.width and view.left == fallback.left for view in views])
    area = width * height * rng.uniform(*scale, 200_000)
    ratio = np.exp(rng.uniform(*np.log(RATIO), 200_000))
    fits = np.mean((np.round(np.sqrt(area * ratio)) <= width) & (np.round(np.sqrt(area / ratio)) <= height))
    assert share == pytest.approx((1 - fits) ** ATTEMPTS, abs=0.03)
    assert ATTEMPTS == 10


@pytest.mark.parametrize(
    ("width", "height", "min_scale"),
    [
        (640, 480, 0.08),
        (500, 333, 0.2),
        (300, 90, 0.08),
        (90, 400, 0.08),
        (13, 9, 0.08),  # where it matters how sides are rounded
    ],
)
def test_drawn_as_torchvision_draws(width, height, min_scale):
    rng = np.random.default_rng(5)
    views = [sample_view(rng, width, height, min_scale) for _ in range(DRAWS)]
    ours = np.array([(view.top, view.left, view.height, view.width) for view in views])
    image = Image.new("L", (width, height))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        draw = RandomResizedCrop.get_params
        theirs = np.array([draw(image, (min_scale, 1.0), RATIO) for _ in range(DRAWS)])
    statistics = {
        "top": lambda t, i, h, w: t,
        "left": lambda t, i, h, w: i,
        "area": lambda t, i, h, w: h * w / (width * height),
        "log ratio": lambda t, i, h, w: np.log(w / h),
        # Where it lies within the room it has, which the corner alone hides behind the size.
        "share of the room above": lambda t, i, h, w: t / np.maximum(height - h, 1),
        "share of the room left": lambda t, i, h, w: i / np.maximum(width - w, 1),
        "centre": lambda t, i, h, w: (i + w / 2) / width + (t + h / 2) / height,
    }
    for what, statistic in statistics.items():
        assert_same_distribution(statistic(*ours.T), statistic(*theirs.T), what)
    flips = np.array([view.flip for view in views])
    assert flips.mean() == pytest.approx(0.5, abs=0.025)
    for column in ours.T:  # mirrored or not, the crops are the same
        assert_same_distribution(column[flips], column[~flips], "flip")


def test_the_same_generator_gives_the_same_views():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [sample_view(rng, 640, 480, 0.08) for _ in range(20)]

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("left", "top", "width", "height", "size"),
    [
        (0, 0, 200, 160, 50),
        (31, 17, 100, 120, 40),
        (150, 99, 50, 61, 64),
        (60, 20, 7, 9, 63),
        (8, 9, 32, 32, 32),
    ],
)
def test_pixels_show_what_the_box_says(left, top, width, height, size, flip):
    image = np.zeros((160, 200, 3), np.uint8)  # value of a pixel: its column and row
    image[..., 0], image[..., 1] = np.arange(200), np.arange(160)[:, None]
    view = View(left, top, width, height, flip)
    shown = view.render(Image.fromarray(image), size).astype(float).transpose(1, 2, 0)
    assert shown.shape == (size, size, 3)
    x0, y0, x1, y1 = view.box.astype(float)
    steps = (np.arange(size) + 0.5) / size
    x, y = x0 + (x1 - x0) * steps, y0 + (y1 - y0) * steps
    # Column i has its centre at i + 0.5. At the crop's border the filter has one side only.
    margin_x, margin_y = max(1.0, width / size), max(1.0, height / size)
    inside_x = (x > left + margin_x) & (x < left + width - margin_x)
    inside_y = (y > top + margin_y) & (y < top + height - margin_y)
    assert inside_x.sum() > size / 2 and inside_y.sum() > size / 2
    assert np.abs(shown[..., 0] - (x - 0.5))[:, inside_x].max() < 0.51  # rounded to whole values
    assert np.abs(shown[..., 1] - (y - 0.5)[:, None])[inside_y].max() < 0.51


@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 2), ("bicubic", 21)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [(0, 0, 97, 61), (13, 7, 40, 50), (90, 3, 7, 5), (50, 60, 1, 1)])
def test_pixels_are_torchvisions_but_for_rounding(crop, flip, interpolation, levels):
    image = Image.fromarray(noise(0, 61, 97))
    left, top, width, height = crop
    expected = F.resized_crop(image, top, left, height, width, [32, 32], InterpolationMode(interpolation))
    expected = F.hflip(expected) if flip else expected
    shown = View(*crop, flip).render(image, 32, interpolation=interpolation)
    assert shown.dtype == np.uint8 and shown.flags.c_contiguous
    difference = np.abs(shown - np.asarray(expected, int).transpose(2, 0, 1))
    assert difference.max() <= levels and difference.mean() < 0.5


def test_ratio_is_of_width_to_height():
    rng = np.random.default_rng(2)
    views = [sample_view(rng, 1000, 1000, 0.3, 0.3) for _ in range(300)]
    ratios = [view.width / view.height for view in views]
    assert RATIO == (3 / 4, 4 / 3)
    assert min(ratios) == pytest.approx(3 / 4, abs=0.02)
    assert max(ratios) == pytest.approx(4 / 3, abs=0.02)
    for view in views:
        assert view.width * view.height == pytest.approx(0.3e6, rel=0.005)


# first (left, top, width, height), second, area in common over the smaller area
OVERLAPS = [
    ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
    ((0, 0, 10, 10), (5, 0, 10, 10), 0.5),
    ((0, 0, 10, 10), (2, 2, 4, 4), 1.0),
    ((0, 0, 10, 10), (8, 5, 4, 10), 0.25),  # 2 x 5 of 40
    ((0, 0, 10, 10), (10, 0, 10, 10), 0.0),
    ((0, 0, 10, 10), (20, 20, 5, 5), 0.0),
]


@pytest.mark.parametrize("first, second, expected", OVERLAPS)
@pytest.mark.parametrize("flip", [False, True])
def test_overlap(first, second, expected, flip):
    views = View(*first, flip=False), View(*second, flip=flip)
    assert overlap(*views) == overlap(*reversed(views)) == expected
    boxes = [torch.tensor(view.box)[None] for view in views]
    assert box_overlap(*boxes).item() == pytest.approx(expected)


def test_pairs_overlap_and_have_the_sizes_asked_for():
    for seed in range(50):
        pair = sample_pair(np.random.default_rng(seed), 640, 480, 0.05, 0.2, 0.1)
        assert overlap(*pair) >= 0.1
        assert all(0.045 < view.width * view.height / (640 * 480) < 0.21 for view in pair)


def test_without_a_least_overlap_the_first_pair_is_taken():
    rng = np.random.default_rng(3)
    expected = tuple(sample_view(rng, 64, 48, 0.08) for _ in range(2))
    assert sample_pair(np.random.default_rng(3), 64, 48, 0.08, 1.0, 0.0) == expected


def test_the_pair_that_overlaps_most_where_none_overlaps_enough():
    """Crops of 1 % of a large image hardly ever share 99.9 % of their area."""
    rng = np.random.default_rng(5)
    drawn = [tuple(sample_view(rng, 640, 480, 0.01, 0.01) for _ in range(2)) for _ in range(20)]
    best = max(drawn, key=lambda pair: overlap(*pair))
    assert sample_pair(np.random.default_rng(5), 640, 480, 0.01, 0.01, 0.999) == best
    below = BoxCorrespondence(0.7, min_overlap=0.999)
    boxes = [torch.tensor(view.box)[None] for view in best]
    assert below.monitors(boxes)["pairs_below_overlap"] == 1
    assert BoxCorrespondence(0.7).monitors(boxes) == {}


class Scripted:
    """In the place of a generator: squares ``crops`` (side, left, top) of an image of side 100, then no flip.

    A side of 0 is a crop of the whole area with a ratio of 4/3, which does not fit.
    """

    def __init__(self, *crops):
        self.numbers = []
        for side, left, top in crops:
            self.numbers += [side**2 / 100**2, 0.0, left, top] if side else [1.0, np.log(4 / 3)]

    def uniform(self, low, high):
        return self.numbers.pop(0)

    def integers(self, high):
        return self.numbers.pop(0)

    def random(self):
        return 0.9


def second_crop(first, *crops):
    view = sample_second(Scripted(*crops), View(*first, flip=False), 100, 100, 0.08, 1.0, min_overlap=0.01)
    return view.width, view.left, view.top


CORNER = (0, 0, 40, 40)


def test_common_area_of_a_photo():
    assert common_area(View(64, 48, 320, 240, flip=False), View(200, 100, 250, 300, flip=True)) == 34592  # S6


def test_the_second_crop_is_drawn_until_it_overlaps():
    """Common areas 0, 4 and 25 pixels against limits of 16, 25 and 25: the third is enough, as the limit is (S6)."""
    assert second_crop(CORNER, (40, 40, 0), (50, 38, 38), (50, 35, 35)) == (50, 35, 35)


def test_the_area_of_a_second_crop_is_the_one_drawn():
    """A side of 50.4 becomes 50: 25 pixels are 1 % of 50 x 50, but too few for the area that was drawn."""
    assert second_crop(CORNER, (50.4, 35, 35), (50, 0, 0)) == (50, 0, 0)


def test_after_ten_draws_one_more_crop_is_taken_as_it_comes():
    found = second_crop(CORNER, *[(50, 50, 50)] * 10, (30, 70, 70))
    assert found == (30, 70, 70)
    assert common_area(View(*CORNER, flip=False), View(70, 70, 30, 30, flip=False)) == 0


def test_a_draw_that_does_not_fit_uses_up_an_attempt():
    assert second_crop(CORNER, *[(0, 0, 0)] * 9, (50, 0, 0)) == (50, 0, 0)
    assert second_crop(CORNER, *[(0, 0, 0)] * 10, (50, 50, 50)) == (50, 50, 50)


@pytest.mark.parametrize("width, height, share", [(640, 480, 0.598), (500, 375, 0.601)])
def test_pairs_whose_second_crop_is_drawn_again(width, height, share):
    """A free second crop has less than 1 % of itself in common in 3.2 % of the pairs, here hardly ever (S6)."""
    rng, shares, free, flips = np.random.default_rng(0), [], [], []
    for _ in range(DRAWS):
        first, second = sample_pair(rng, width, height, 0.08, 1.0, 0.01, "second")
        shares.append(common_area(first, second) / (second.width * second.height))
        flips.append((first.flip, second.flip))
        first, second = sample_pair(rng, width, height, 0.08, 1.0, 0.0)
        free.append(common_area(first, second) / (second.width * second.height))
    assert np.mean(np.array(shares) < 0.0099) < 0.001 and np.mean(shares) == pytest.approx(share, abs=0.015)
    assert np.mean(np.array(free) < 0.01) == pytest.approx(0.032, abs=0.008)
    assert np.mean(flips, axis=0) == pytest.approx([0.5, 0.5], abs=0.025)
