"""TIFF files that Pillow reads, misreads, and cannot read."""

import tracemalloc

import numpy as np
import pytest
from data_helpers import write_tiff

from pixpro_d2.data.io.reader import UnreadableImage, _to_8_bits, read_image

HEIGHT, WIDTH = 4, 6


LEVELS = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
RGB = np.stack([LEVELS, 100 + LEVELS, 200 - LEVELS], -1)


def _planes(values):
    return list(np.moveaxis(values, -1, 0))


@pytest.mark.parametrize(
    ("planes", "options", "pixel_range", "expected"),
    [
        ([(257 * RGB).astype(np.uint16)], {}, (), RGB),
        (_planes(RGB.astype(np.uint8)), {}, (), RGB),
        (_planes((257 * RGB).astype(np.uint16)), {"compress": True}, (), RGB),
        ([(LEVELS - 10).astype(np.int16)], {"order": ">"}, (-10, 245), LEVELS[..., None]),
        ([(LEVELS - 10).astype(np.int16)], {"compress": True}, (-10, 245), LEVELS[..., None]),
        ([LEVELS.astype(np.uint32)], {}, (0, 255), LEVELS[..., None]),
        ([(257 * LEVELS).astype(np.uint16)], {"order": ">", "compress": True}, (), LEVELS[..., None]),
        ([LEVELS.astype(np.float32)], {}, (0, 255), LEVELS[..., None]),
    ],
)
def test_kinds_that_are_read(tmp_path, planes, options, pixel_range, expected):
    write_tiff(tmp_path / "a.tif", planes, **options)
    shown = np.asarray(read_image(str(tmp_path / "a.tif"), pixel_range))
    np.testing.assert_array_equal(shown, np.broadcast_to(expected, (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize(
    ("planes", "options", "reason"),
    [
        (_planes((257 * RGB).astype(np.uint16)), {}, "separate planes: save it with interleaved channels, or"),
        (_planes((257 * RGB).astype(np.uint16)), {"order": ">"}, "separate planes: save it with interleaved"),
        ([(LEVELS - 10).astype(np.int8)], {}, "negative integers of 8 bits: save it with 16"),
        ([LEVELS.astype(np.int16)], {"order": ">", "compress": True}, "big-endian integers: save it little-endian, or"),
        ([(LEVELS + 2**31 - 10).astype(np.uint32)], {}, "integers from 2147483648 on: save it with floats"),
    ],
)
def test_kinds_that_pillow_misreads_are_refused(tmp_path, planes, options, reason):
    write_tiff(tmp_path / "a.tif", planes, **options)
    with pytest.raises(UnreadableImage, match=rf"/a\.tif: ValueError: Pillow misreads .*{reason}"):
        read_image(str(tmp_path / "a.tif"), (-(2**31), 2**31))


def test_a_kind_that_pillow_does_not_know(tmp_path):
    write_tiff(tmp_path / "a.tif", [np.zeros((HEIGHT, WIDTH, 4), np.float32)])
    with pytest.raises(UnreadableImage, match=r"/a\.tif: a damaged TIFF, or of a kind that Pillow cannot read \(bands"):
        read_image(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("pixel_range", [(), (0, 4095)])
def test_large_images_need_little_memory(pixel_range):
    values = np.random.default_rng(0).integers(0, 65536, (2100, 1000)).astype(np.uint16)
    tracemalloc.start()
    shown = _to_8_bits(values, pixel_range)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * values.size  # bytes; at once, a range would need 21 a pixel
    low, high = pixel_range or (0, 65535)
    np.testing.assert_array_equal(shown, ((values - float(low)) * 255 / (high - low)).clip(0, 255).astype(np.uint8))
