"""From a dataset dict to two views: shapes, randomness, formats, and that boxes and pixels agree."""

import copy
import random

import numpy as np
import pytest
import torch
from data_helpers import make_cfg, noise
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.photometric import POLICIES
from pixpro_d2.data.pretrain.views import sample_pair
from pixpro_d2.modeling.pretrain.correspondence import bin_diagonals, normalize_boxes, positive_pairs
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(noise(0, 60, 80)).save(path)
    return {"file_name": str(path)}


def _sample(dataset_dict, seed=0, **keys):
    return TwoViewMapper(make_cfg(**keys))(dataset_dict, np.random.default_rng(seed))


def test_sample(image):
    sample = _sample(image, INPUT__PIXPRO__CROP_SIZE=24)
    assert set(sample) == {"views", "boxes", "image_size", "file_name"}
    assert sample["views"].shape == (2, 3, 24, 24) and sample["views"].dtype == np.uint8
    assert sample["boxes"].shape == (2, 4) and sample["boxes"].dtype == np.float32
    assert sample["image_size"] == (60, 80)
    assert sample["file_name"] == image["file_name"]
    assert not np.array_equal(sample["views"][0], sample["views"][1])
    assert not np.array_equal(sample["boxes"][0], sample["boxes"][1])


def test_boxes_cover_the_wanted_area(image):
    for min_scale in (0.08, 0.5):
        boxes = [_sample(image, seed, INPUT__PIXPRO__MIN_SCALE=min_scale)["boxes"] for seed in range(60)]
        x0, y0, x1, y1 = np.concatenate(boxes).T
        flips = x0 > x1
        assert 0.3 < flips.mean() < 0.7 and (y0 < y1).all()
        assert np.minimum(x0, x1).min() >= 0 and np.maximum(x0, x1).max() <= 80
        assert y0.min() >= 0 and y1.max() <= 60
        area = np.abs(x1 - x0) * (y1 - y0) / (60 * 80)
        assert min_scale * 0.95 < area.min() < min_scale + 0.1


def test_the_generator_decides_everything(image):
    cfg = make_cfg()
    mapper = TwoViewMapper(cfg)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()
    first = mapper(image, np.random.default_rng(5))
    # It leaves the global generators alone, and they do not matter to it.
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.random.get_rng_state(), states[2])
    with torch.random.fork_rng():
        torch.manual_seed(123)
        again = TwoViewMapper(cfg)(image, np.random.default_rng(5))
    for key in ("views", "boxes"):
        np.testing.assert_array_equal(first[key], again[key])
    other = mapper(image, np.random.default_rng(6))
    assert not np.array_equal(first["boxes"], other["boxes"])
    assert not np.array_equal(mapper(image)["boxes"], mapper(image)["boxes"])  # a fresh generator each time


def test_the_dataset_dict_stays_as_it_is(image):
    full = {**image, "image_id": 7, "height": 1, "width": 1, "annotations": [{"bbox": [0, 0, 1, 1]}]}
    before = copy.deepcopy(full)
    sample = _sample(full)
    assert full == before
    assert sample["image_size"] == (60, 80)  # of the file, whatever the annotations say


def test_size_and_boxes_are_of_the_upright_image(tmp_path):
    picture = Image.fromarray(noise(0, 30, 90))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    sample = _sample({"file_name": str(tmp_path / "turned.png")}, INPUT__PIXPRO__MIN_SCALE=0.9)
    assert sample["image_size"] == (90, 30)
    assert sample["boxes"][:, [0, 2]].max() <= 30 < sample["boxes"][:, 3].min()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"INPUT__PIXPRO__AUG": "randaug"}, "INPUT.PIXPRO.AUG is 'randaug'.*byol, mocov2, simclr or none"),
    ],
)
def test_mistakes_in_the_config(keys, message):
    with pytest.raises(UsageError, match=message):
        TwoViewMapper(make_cfg(**keys))


def test_second_crop_and_resizing_are_those_of_the_config(image):
    keys = dict(INPUT__PIXPRO__MIN_OVERLAP=0.3, INPUT__PIXPRO__REDRAW="second", INPUT__PIXPRO__INTERPOLATION="bicubic")
    picture, others = Image.open(image["file_name"]), 0
    for seed in range(20):
        pair, other = (sample_pair(np.random.default_rng(seed), 80, 60, 0.08, 1.0, 0.3, x) for x in ("second", "both"))
        sample = _sample(image, seed, INPUT__PIXPRO__AUG="none", **keys)
        np.testing.assert_array_equal(sample["boxes"], [view.box for view in pair])
        others += pair != other
        for view, shown in zip(pair, sample["views"]):
            place = (view.top, view.left, view.height, view.width)
            expected = F.resized_crop(picture, *place, [8, 8], InterpolationMode.BICUBIC)
            expected = F.hflip(expected) if view.flip else expected
            assert np.abs(shown - np.asarray(expected, int).transpose(2, 0, 1)).max() <= 21  # the rounding of bicubic
    assert others > 0


def test_min_scale_of_one_is_allowed(image):
    assert TwoViewMapper(make_cfg(INPUT__PIXPRO__MIN_SCALE=1.0)).min_scale == 1


def test_an_unreadable_image_is_reported(tmp_path):
    with pytest.raises(UnreadableImage, match="none.png"):
        _sample({"file_name": str(tmp_path / "none.png")})


def test_formats(image):
    for seed in range(5):
        rgb = _sample(image, seed)
        bgr = _sample(image, seed, INPUT__FORMAT="BGR")
        np.testing.assert_array_equal(bgr["views"], rgb["views"][:, ::-1])
        grey = _sample(image, seed, INPUT__FORMAT="L", MODEL__PIXEL_MEAN=[128.0])
        assert grey["views"].shape == (2, 1, 8, 8)
        for view, colours in zip(grey["views"], rgb["views"]):
            expected = Image.fromarray(np.ascontiguousarray(colours.transpose(1, 2, 0))).convert("L")
            np.testing.assert_allclose(view[0].astype(int), np.asarray(expected, int), atol=1)
        for other in (bgr, grey):
            np.testing.assert_array_equal(other["boxes"], rgb["boxes"])


def test_each_view_has_its_own_policy(tmp_path):
    # On white, jitter cannot go below 0.6 * 255; only solarisation, of the second view, makes it dark.
    Image.new("RGB", (20, 20), "white").save(tmp_path / "white.png")
    mapper = TwoViewMapper(make_cfg())
    assert mapper.policies == POLICIES["byol"]
    image = {"file_name": str(tmp_path / "white.png")}
    samples = [mapper(image, np.random.default_rng(seed)) for seed in range(300)]
    dark = np.array([sample["views"].max(axis=(1, 2, 3)) < 128 for sample in samples])
    assert not dark[:, 0].any()
    assert dark[:, 1].mean() == pytest.approx(0.2, abs=0.08)


def _centres_seen(view, grid):
    """(grid * grid, 2) x and y of the image where each bin of a view lies, read off its colours."""
    bins = view[:2].astype(np.float64).reshape(2, grid, view.shape[1] // grid, grid, -1).mean((2, 4))
    return bins.reshape(2, -1).T + 0.5  # column i of the image has its centre at i + 0.5


def test_positive_pairs_show_the_same_place(tmp_path):
    # The colour of a pixel is its column and row, so that views tell where in the image they are.
    height, width, grid = 200, 250, 7
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width), np.arange(height)[:, None]
    Image.fromarray(picture).save(tmp_path / "map.png")
    mapper = TwoViewMapper(make_cfg(INPUT__PIXPRO__AUG="none", INPUT__PIXPRO__CROP_SIZE=56))
    positives, mirrored, near = 0, 0, 0
    for seed in range(60):
        sample = mapper({"file_name": str(tmp_path / "map.png")}, np.random.default_rng(seed))
        boxes = normalize_boxes(
            torch.from_numpy(sample["boxes"]), torch.tensor([sample["image_size"]] * 2), units="pixel"
        )
        matched = positive_pairs(boxes[:1], boxes[1:], (grid, grid), (grid, grid), 0.7)[0].numpy()
        seen = [_centres_seen(view, grid) for view in sample["views"]]
        distance = np.hypot(*(seen[0][:, None] - seen[1][None]).transpose(2, 0, 1))
        unit = float(bin_diagonals(boxes, (grid, grid)).max())
        # Pixel values are rounded, and filtered on one side at the border.
        close = np.abs(distance - 0.7 * unit) < 1.5
        np.testing.assert_array_equal(matched[~close], (distance < 0.7 * unit)[~close], f"seed {seed}")
        near += close.sum()
        positives += matched.sum()
        flips = boxes[:, 0] > boxes[:, 2]
        mirrored += matched.any() and bool(flips[0] != flips[1])
    assert positives > 1000 and mirrored > 5
    assert near < 0.02 * 60 * grid**4


def test_views_apart_have_no_positive_pair(tmp_path):
    # Crops of so oblong an image mostly do not overlap.
    picture = np.zeros((32, 256, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(256), np.arange(32)[:, None]
    Image.fromarray(picture).save(tmp_path / "map.png")
    mapper = TwoViewMapper(make_cfg(INPUT__PIXPRO__AUG="none", INPUT__PIXPRO__CROP_SIZE=28))
    apart = 0
    for seed in range(60):
        sample = mapper({"file_name": str(tmp_path / "map.png")}, np.random.default_rng(seed))
        places = sample["views"][:, :2].astype(int)
        low, high = places.min((2, 3)), places.max((2, 3))
        gap = (low.max(0) - high.min(0)).max()  # in pixels, by the colours
        boxes = torch.from_numpy(sample["boxes"])  # units: pixels
        unit = float(bin_diagonals(boxes, (7, 7)).max())
        if gap > 0.7 * unit:
            apart += 1
            assert not positive_pairs(boxes[:1], boxes[1:], (7, 7), (7, 7), 0.7).any(), seed
    assert apart > 20
