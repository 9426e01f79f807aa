"""Photometric policies: their probabilities, what a recipe does, and the images that come out."""

import itertools

import numpy as np
import pytest
import torch
from data_helpers import assert_same_distribution, describe_images, noise
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision import transforms as T
from torchvision.transforms import functional as F

from pixpro_d2.data.pretrain import colour_operations
from pixpro_d2.data.pretrain.photometric import POLICIES, Policy, Recipe, apply, to_array, to_format, to_planes
from pixpro_d2.extras.scenes.scene import describe_scene, render_scene

DRAWS = 8000

# Preset, view, strengths (brightness, contrast, saturation, hue), probabilities of blur and solarisation;
# jitter always has the probability 0.8, greyscale 0.2.
PRESETS = [
    ("byol", 0, (0.4, 0.4, 0.2, 0.1), 1.0, 0.0),
    ("byol", 1, (0.4, 0.4, 0.2, 0.1), 0.1, 0.2),
    ("mocov2", 0, (0.4, 0.4, 0.4, 0.1), 0.5, 0.0),
    ("mocov2", 1, (0.4, 0.4, 0.4, 0.1), 0.5, 0.0),
    ("simclr", 0, (0.8, 0.8, 0.8, 0.2), 0.5, 0.0),
    ("simclr", 1, (0.8, 0.8, 0.8, 0.2), 0.5, 0.0),
]


def _draw(policy, seed, count=DRAWS):
    rng = np.random.default_rng(seed)
    return [policy.sample(rng) for _ in range(count)]


def _assert_share(flags, probability):
    share = np.mean(flags)
    if probability in (0.0, 1.0):
        assert share == probability
    else:
        assert share == pytest.approx(probability, abs=0.02)  # four standard deviations


def test_presets_are_these():
    assert list(POLICIES) == ["byol", "mocov2", "simclr", "none"]
    assert all(len(pair) == 2 for pair in POLICIES.values())


@pytest.mark.parametrize(("preset", "view", "strengths", "blur", "solarize"), PRESETS)
def test_probabilities_and_ranges(preset, view, strengths, blur, solarize):
    recipes = _draw(POLICIES[preset][view], seed=view)
    jittered = np.array([bool(recipe.jitter) for recipe in recipes])
    grey = np.array([recipe.grayscale for recipe in recipes])
    blurred = np.array([recipe.blur is not None for recipe in recipes])
    solarized = np.array([recipe.solarize for recipe in recipes])
    _assert_share(jittered, 0.8)
    _assert_share(grey, 0.2)
    _assert_share(blurred, blur)
    _assert_share(solarized, solarize)
    # Drawn independently of each other.
    _assert_share(jittered & grey, 0.8 * 0.2)
    _assert_share(grey & blurred, 0.2 * blur)
    _assert_share(blurred & solarized, blur * solarize)

    uniform = np.random.default_rng(99).random(DRAWS)
    radii = [recipe.blur for recipe in recipes if recipe.blur is not None]
    assert min(radii) >= 0.1 and max(radii) <= 2
    assert_same_distribution(radii, 0.1 + 1.9 * uniform, "blur")

    factors = [dict(recipe.jitter) for recipe in recipes if recipe.jitter]
    for name, strength in zip(("brightness", "contrast", "saturation", "hue"), strengths):
        middle = 0 if name == "hue" else 1
        values = np.array([factor[name] for factor in factors])
        assert np.abs(values - middle).max() <= strength
        assert_same_distribution(values, middle + strength * (2 * uniform - 1), name)
        others = [factor[other] for factor in factors for other in factor if other != name]
        assert not np.isin(values, others).any(), f"{name} shares its draw"


def test_every_order_of_the_jitter_is_as_likely():
    recipes = _draw(POLICIES["byol"][0], seed=4, count=12_000)
    orders = [tuple(name for name, _ in recipe.jitter) for recipe in recipes if recipe.jitter]
    counts = {order: orders.count(order) for order in set(orders)}
    assert set(counts) == set(itertools.permutations(("brightness", "contrast", "saturation", "hue")))
    assert min(counts.values()) > 300 and max(counts.values()) < 500  # 400 each, deviation 20


def test_none_does_nothing():
    image = to_planes(noise(0, 16, 16))
    for policy in POLICIES["none"]:
        assert set(_draw(policy, seed=0, count=50)) == {Recipe()}
        np.testing.assert_array_equal(apply(Recipe(), image), image)


def test_the_same_generator_gives_the_same_recipes():
    policy = POLICIES["byol"][1]
    assert _draw(policy, 7, 100) == _draw(policy, 7, 100)
    assert _draw(policy, 7, 100) != _draw(policy, 8, 100)


def _scene():
    return Image.fromarray(render_scene(describe_scene(seed=0, index=2, height=48, width=48))[0])


def _in_sequence(recipe, pixels):
    for name, factor in recipe.jitter:
        pixels = getattr(colour_operations, f"adjust_{name}")(pixels, factor)
    pixels = colour_operations.to_grey(pixels) if recipe.grayscale else pixels
    pixels = pixels if recipe.blur is None else colour_operations.gaussian_blur(pixels, recipe.blur)
    return colour_operations.solarize(pixels) if recipe.solarize else pixels


def _by_pillow(recipe, image):
    for name, factor in recipe.jitter:
        if name == "brightness":
            image = ImageEnhance.Brightness(image).enhance(factor)
        elif name == "contrast":
            image = ImageEnhance.Contrast(image).enhance(factor)
        elif name == "saturation":
            image = ImageEnhance.Color(image).enhance(factor)
        else:
            image = F.adjust_hue(image, factor)
    if recipe.grayscale:
        image = Image.merge("RGB", [image.convert("L")] * 3)
    if recipe.blur is not None:
        image = image.filter(ImageFilter.GaussianBlur(recipe.blur))
    if recipe.solarize:
        pixels = np.asarray(image)
        image = Image.fromarray(np.where(pixels >= 128, 255 - pixels, pixels))
    return image


JITTER = (("brightness", 1.3), ("contrast", 0.7), ("saturation", 1.15), ("hue", -0.08))


@pytest.mark.parametrize(
    "recipe",
    [
        *(Recipe(jitter=order) for order in itertools.permutations(JITTER)),
        Recipe(grayscale=True),
        Recipe(blur=0.137),
        Recipe(blur=1.913),
        Recipe(solarize=True),
        Recipe(blur=1.2, solarize=True),
        Recipe(JITTER, grayscale=True, blur=0.7, solarize=True),
    ],
)
def test_a_recipe_is_the_sequence_of_its_operations(recipe):
    image = _scene()
    planes = to_planes(image)
    before = planes.copy()
    done = apply(recipe, planes)
    assert done.dtype == np.uint8 and done.flags.c_contiguous
    np.testing.assert_array_equal(done, to_planes(_in_sequence(recipe, np.asarray(image))))
    assert np.abs(done - to_planes(_by_pillow(recipe, image)).astype(int)).mean() < 1.0  # hues are rounded otherwise
    assert not np.array_equal(done, planes)
    np.testing.assert_array_equal(planes, before)


def test_blur_comes_before_solarisation():
    # The two do not commute, and neither does greyscale with solarisation.
    image = Image.fromarray(noise(2, 24, 24))
    planes = to_planes(image)
    other = to_planes(ImageOps.solarize(image).filter(ImageFilter.GaussianBlur(1.5))).astype(int)
    assert np.abs(apply(Recipe(blur=1.5, solarize=True), planes) - other).mean() > 5
    other = to_planes(ImageOps.solarize(image).convert("L").convert("RGB")).astype(int)
    assert np.abs(apply(Recipe(grayscale=True, solarize=True), planes) - other).mean() > 5


def _torchvision(view):
    """The official pair of transforms, in torchvision and Pillow."""

    def blur(image):
        return image.filter(ImageFilter.GaussianBlur(radius=float(torch.empty(1).uniform_(0.1, 2.0))))

    steps = [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8), T.RandomGrayscale(p=0.2)]
    if view == 0:
        steps.append(blur)
    else:
        steps += [T.RandomApply([blur], p=0.1), T.RandomApply([ImageOps.solarize], p=0.2)]
    return T.Compose(steps)


@pytest.mark.parametrize("view", [0, 1])
def test_images_are_distributed_as_torchvisions(view):
    # Two samples of 600 images agree within a Kolmogorov-Smirnov distance of 0.113 in each statistic.
    image = _scene()
    planes = to_planes(image)
    ours = [apply(recipe, planes) for recipe in _draw(POLICIES["byol"][view], seed=11, count=600)]
    compose = _torchvision(view)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        theirs = [to_planes(compose(image)) for _ in range(600)]
    ours, theirs = describe_images(ours), describe_images(theirs)
    for what, values in ours.items():
        assert values.std() > 1, f"{what} does not vary"
        assert_same_distribution(values, theirs[what], what)


def test_formats():
    pixels = noise(3, 5, 7)
    image = Image.fromarray(pixels)
    for image_format, expected in [
        ("RGB", pixels.transpose(2, 0, 1)),
        ("BGR", pixels[..., ::-1].transpose(2, 0, 1)),
        ("L", np.asarray(image.convert("L"))[None]),
    ]:
        for array in (to_array(image, image_format), to_format(to_planes(image), image_format)):
            assert array.dtype == np.uint8 and array.flags.c_contiguous
            np.testing.assert_allclose(array.astype(int), expected, atol=image_format == "L")
    red = Image.new("RGB", (2, 2), (200, 100, 50))
    assert to_array(red, "BGR")[:, 0, 0].tolist() == [50, 100, 200]
    assert to_array(red, "L")[0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


@pytest.mark.parametrize("pixels", [noise(0, 4, 5)[..., 0], noise(0, 4, 5)[..., :2], noise(0, 4, 5) / 255])
def test_images_that_are_not_rgb(pixels):
    with pytest.raises(ValueError, match="not .H, W, 3. and uint8"):
        to_planes(pixels)


def test_a_policy_does_nothing_by_default():
    assert Policy().sample(np.random.default_rng(0)) == Recipe()
