"""JPEG files decoded no larger than the views need."""

import numpy as np
import pytest
from data_helpers import make_cfg
from PIL import Image

from pixpro_d2.data.io.reader import EncodedImage, UnreadableImage
from pixpro_d2.data.pretrain import mapper as mapper_module
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.photometric import POLICIES
from pixpro_d2.data.pretrain.views import View

ORIENTATION = 0x0112


def _save_map(path, width, height, orientation=1):
    """JPEG whose red is half the column and whose green is half the row, as stored."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width) / 2, np.arange(height)[:, None] / 2
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(path, quality=95, subsampling=0, exif=exif)
    return str(path)


@pytest.mark.parametrize(
    ("allowed", "shrink", "size"), [(1, 1, (301, 203)), (3, 2, (151, 102)), (4, 4, (76, 51)), (100, 8, (38, 26))]
)
def test_sizes(tmp_path, allowed, shrink, size):
    image = EncodedImage(_save_map(tmp_path / "map.jpg", 301, 203))
    decoded, got = image.decode(allowed)
    assert (got, decoded.size, decoded.mode) == (shrink, size, "RGB")
    assert image.size == (301, 203)


def test_decoded_once_unless_it_is_too_small(tmp_path):
    image = EncodedImage(_save_map(tmp_path / "map.jpg", 64, 48))
    small, _ = image.decode(4)
    assert image.decode(4)[0] is small and image.decode(8)[0] is small
    large, shrink = image.decode(1)
    assert shrink == 1 and large.size == (64, 48)
    assert image.decode(8) == (large, 1)


def test_other_formats_keep_their_size(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    image = EncodedImage(str(tmp_path / "image.png"))
    decoded, shrink = image.decode(8)
    assert shrink == 1 and decoded.size == image.size == (40, 30)


def test_damage_behind_the_header_is_found_by_decoding(tmp_path):
    path = tmp_path / "cut.jpg"
    _save_map(path, 200, 100)
    path.write_bytes(path.read_bytes()[:-800])
    image = EncodedImage(str(path))
    assert image.size == (200, 100)
    with pytest.raises(UnreadableImage, match="cut.jpg"):
        image.decode(2)


@pytest.mark.parametrize("size", [(320, 160), (317, 163)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation, size):
    path = _save_map(tmp_path / "map.jpg", *size, orientation)
    full, _ = EncodedImage(path).decode()
    image = EncodedImage(path)
    small, shrink = image.decode(4)
    assert image.size == full.size == (size if orientation < 5 else size[::-1])
    # Parts of a pixel at the sides that turning would bring to the front are not worth their trouble.
    assert shrink == (1 if orientation > 1 and size == (317, 163) else 4)
    view = View(left=23, top=18, width=101, height=99, flip=orientation % 2 == 0)
    expected, got = (view.render(*x).astype(float).transpose(1, 2, 0) for x in ((full, 24), (small, 24, shrink)))
    # A pixel of the original is half a level, so this is half a pixel; rounding and JPEG even out over the view.
    np.testing.assert_allclose(got[..., :2].mean((0, 1)), expected[..., :2].mean((0, 1)), atol=0.25)
    assert np.abs(got - expected)[..., :2].mean() < 1


def test_a_view_is_never_enlarged_for_it():
    mapper = TwoViewMapper(make_cfg(INPUT__PIXPRO__CROP_SIZE=20))
    large = View(0, 0, 400, 300, False)
    for width, height, expected in ((400, 399, 15), (160, 200, 8), (159, 200, 7), (39, 300, 1), (12, 9, 1)):
        assert mapper.max_shrink([large, View(5, 5, width, height, True)]) == expected
    whole = TwoViewMapper(make_cfg(INPUT__PIXPRO__CROP_SIZE=20), draft=False)
    assert whole.max_shrink([large, large]) == 1


def test_samples_are_those_of_whole_images(tmp_path, monkeypatch):
    path = _save_map(tmp_path / "map.jpg", 401, 302)
    cfg = make_cfg(INPUT__PIXPRO__CROP_SIZE=40, INPUT__PIXPRO__MIN_SCALE=0.2)
    mappers = [TwoViewMapper(cfg, policies=POLICIES["none"], draft=draft) for draft in (True, False)]
    shrinks = []

    class Recorded(EncodedImage):
        def decode(self, max_shrink=1):
            result = super().decode(max_shrink)
            shrinks.append(result[1])
            return result

    monkeypatch.setattr(mapper_module, "EncodedImage", Recorded)
    for seed in range(20):
        fast, whole = (mapper({"file_name": path}, np.random.default_rng(seed)) for mapper in mappers)
        for key in ("boxes", "image_size"):
            np.testing.assert_array_equal(fast[key], whole[key])
        assert np.abs(fast["views"].astype(int) - whole["views"]).mean() < 1
    assert {1, 2, 4} <= set(shrinks)
