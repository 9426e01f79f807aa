"""Fast 8-bit operations against those of Pillow and torchvision, bit by bit."""

import numpy as np
import pytest
from data_helpers import noise
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms.v2 import functional as F

from pixpro_d2.data.pretrain import pil_arithmetic
from pixpro_d2.data.pretrain.photometric import to_planes


@pytest.fixture(scope="module")
def colours():
    """PIL image of colours on a grid with all corners and greys of the cube, and of random ones."""
    levels = np.linspace(0, 255, 52).round()
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    greys = np.repeat(np.arange(256)[:, None], 3, 1)
    random = noise(0, 400, 400).reshape(-1, 3)
    return Image.fromarray(np.concatenate([grid, greys, random]).astype(np.uint8)[None])


def _assert_equal(image, expected):
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, to_planes(expected))


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.63, 1.0, 1.177, 1.8])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter(colours, name, factor):
    function = f"adjust_{name}"
    done = getattr(pil_arithmetic, function)(to_planes(colours), factor)
    _assert_equal(done, getattr(F, function)(colours, factor))
    assert np.array_equal(done, to_planes(colours)) == (factor == 1)


@pytest.mark.parametrize("factor", [-0.5, -0.2, -0.08, -0.001, 0.0, 0.0567, 0.1, 0.37, 0.5])
def test_hue(colours, factor):
    _assert_equal(pil_arithmetic.adjust_hue(to_planes(colours), factor), F.adjust_hue(colours, factor))


def test_luminance_and_solarisation(colours):
    planes = to_planes(colours)
    np.testing.assert_array_equal(pil_arithmetic.luminance(planes), np.asarray(colours.convert("L")))
    _assert_equal(pil_arithmetic.solarize(planes), ImageOps.solarize(colours))


def test_contrast_keeps_to_the_rounded_mean():
    # Greys of mean 10.5, which is rounded up: factor 0 leaves 11.
    image = np.stack([np.array([[10, 11]], np.uint8)] * 3)
    assert (pil_arithmetic.adjust_contrast(image, 0.0) == 11).all()


def _blur_differences(pixels, radius):
    expected = to_planes(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    got = pil_arithmetic.gaussian_blur(to_planes(pixels), radius)
    assert got.dtype == np.uint8
    return np.abs(got.astype(int) - expected)


def test_blur():
    radii = np.random.default_rng(0).uniform(0.1, 2.0, 20).tolist()
    differences = np.stack([_blur_differences(noise(i, 80, 72), radius) for i, radius in enumerate(radii)])
    assert differences.max() <= 1 and (differences > 0).mean() < 1e-4


@pytest.mark.parametrize("size", [(40, 36), (3, 50), (2, 2), (1, 9)])
@pytest.mark.parametrize("radius", [0.1, 0.5, 1.0, 1.414, 1.415, 2.0])
def test_blur_of_round_radii_and_small_images(size, radius):
    # Round radii make weights whose sums often end in a half: 0.1, 8 / 30, 8 / 30, 8 / 30 and 0.1 for 2.
    pixels = noise(1, *size)
    pixels[: size[0] // 2] = 255
    assert _blur_differences(pixels, radius).max() <= 2  # six roundings follow each other
