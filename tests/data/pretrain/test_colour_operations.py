"""Operations on 8-bit colours against those of Pillow and torchvision, which the official code uses."""

import numpy as np
import pytest
from data_helpers import noise
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms.v2 import functional as F

from pixpro_d2.data.pretrain import colour_operations
from pixpro_d2.extras.scenes.scene import describe_scene, render_scene


@pytest.fixture(scope="module")
def colours():
    """PIL image of colours on a grid with all corners and greys of the cube, and of random ones."""
    levels = np.linspace(0, 255, 52).round()
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    greys = np.repeat(np.arange(256)[:, None], 3, 1)
    random = noise(0, 400, 400).reshape(-1, 3)
    return Image.fromarray(np.concatenate([grid, greys, random]).astype(np.uint8)[None])


@pytest.fixture(scope="module")
def picture():
    """PIL image of soft colours and edges, as photographs have them."""
    scene = render_scene(describe_scene(seed=0, index=2, height=96, width=96))[0]
    return Image.fromarray(scene).filter(ImageFilter.GaussianBlur(1))


def _apply(name, image, *arguments):
    """Apply our operation to a PIL image, in int; the result is a new array."""
    pixels = np.array(image)
    done = getattr(colour_operations, name)(pixels, *arguments)
    assert done.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image))
    return done.astype(int)


@pytest.mark.parametrize("factor", [0.0, 0.2, 0.63, 1.0, 1.177, 1.8])
@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast", "adjust_saturation"])
def test_jitter(colours, name, factor):
    done = _apply(name, colours, factor)
    differences = np.abs(done - np.asarray(getattr(F, name)(colours, factor)))
    assert differences.max() <= 1 and differences.mean() < (0.6 if name == "adjust_saturation" else 0.02)
    assert np.array_equal(done, np.asarray(colours)) == (factor == 1)


@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast"])
def test_levels_are_rounded_down_as_pillow_does(colours, name):
    share = []
    for factor in np.random.default_rng(0).uniform(0.2, 1.8, 30):
        differences = np.abs(_apply(name, colours, factor) - np.asarray(getattr(F, name)(colours, factor)))
        share.append((differences > 0).mean())
        assert differences.max() <= 1
    assert np.mean(share) < 2e-4


def test_saturation_and_hue_leave_greys_alone():
    greys = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2))
    for factor in np.random.default_rng(0).uniform(0.2, 1.8, 100):
        np.testing.assert_array_equal(_apply("adjust_saturation", greys, factor), np.asarray(greys))
        np.testing.assert_array_equal(_apply("adjust_hue", greys, factor - 1), np.asarray(greys))


HUES = [-0.5, -0.2, -0.08, -0.001, 0.0, 0.0567, 0.1, 0.37, 0.5]


@pytest.mark.parametrize("factor", HUES)
def test_hue(colours, picture, factor):
    """Saturated colours change by up to 13 levels, by 1 on average; colours of a picture by much less."""
    differences = np.abs(_apply("adjust_hue", colours, factor) - np.asarray(F.adjust_hue(colours, factor)))
    assert differences.max() <= 13 and differences.mean() < 1.3
    differences = np.abs(_apply("adjust_hue", picture, factor) - np.asarray(F.adjust_hue(picture, factor)))
    assert np.percentile(differences, 99) <= 3 and differences.mean() < 0.7


def test_a_third_of_a_turn_makes_green_of_red():
    red = np.full((1, 1, 3), (200, 20, 20), np.uint8)
    green = colour_operations.adjust_hue(red, 1 / 3)[0, 0]
    assert np.abs(green - np.array([20.0, 200.0, 20.0])).max() <= 4  # 85 of 256 steps


def test_grey_and_solarisation(colours):
    expected = np.asarray(colours.convert("L"), int)
    assert np.abs(_apply("luminance", colours) - expected).max() <= 1
    np.testing.assert_array_equal(_apply("to_grey", colours), np.stack([_apply("luminance", colours)] * 3, axis=-1))
    np.testing.assert_array_equal(_apply("solarize", colours), np.asarray(ImageOps.solarize(colours)))


def test_contrast_keeps_to_the_rounded_mean():
    # Greys of mean 10.5, which is rounded up: factor 0 leaves 11.
    image = np.repeat(np.array([[10, 11]], np.uint8)[..., None], 3, axis=2)
    assert (colour_operations.adjust_contrast(image, 0.0) == 11).all()


def _blur_differences(pixels, radius):
    expected = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    return np.abs(_apply("gaussian_blur", Image.fromarray(pixels), radius) - expected)


def test_blur():
    radii = np.random.default_rng(0).uniform(0.1, 2.0, 20).tolist()
    differences = np.stack([_blur_differences(noise(i, 80, 72), radius) for i, radius in enumerate(radii)])
    assert differences.max() <= 3 and differences.mean() < 0.45


@pytest.mark.parametrize("size", [(40, 36), (3, 50), (2, 2), (1, 9)])
@pytest.mark.parametrize("radius", [0.1, 0.5, 1.0, 1.414, 1.415, 2.0])
def test_blur_of_round_radii_and_small_images(size, radius):
    pixels = noise(1, *size)
    pixels[: size[0] // 2] = 255
    assert _blur_differences(pixels, radius).max() <= 3


def test_blur_keeps_the_mean():
    pixels = noise(2, 90, 90)
    pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:] = 128, 128, 128, 128  # nothing leaves the image
    for radius in (0.3, 1.0, 2.0):
        assert _apply("gaussian_blur", Image.fromarray(pixels), radius).mean() == pytest.approx(pixels.mean(), abs=0.05)
