"""Photometric operations on a batch of tensors against PIL's and torchvision's on each image."""

import itertools

import numpy as np
import pytest
import torch
from data_helpers import noise
from torchvision.transforms.v2 import functional as F

from pixpro_d2.data.pretrain import photometric
from pixpro_d2.data.pretrain.device_photometric import DevicePhotometric, apply_recipes, gaussian_blur, to_format
from pixpro_d2.data.pretrain.photometric import POLICIES, Policy, Recipe, to_planes
from pixpro_d2.data.pretrain.recipe_batch import collate_recipes, gaussian_kernels
from pixpro_d2.extras.scenes.scene import describe_scene, render_scene


def apply(recipes, images):
    return apply_recipes(images, collate_recipes(recipes))


def on_cpu(recipe, pixels):
    """The recipe applied on the CPU to an (H, W, 3) uint8 array; (3, H, W) in [0, 1]."""
    return torch.from_numpy(photometric.apply(recipe, to_planes(pixels))) / 255


def to_tensor(pixels):
    return torch.from_numpy(to_planes(pixels)) / 255


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def grey_corners():
    """Random colours, with greys, black, white and pure colours among them."""
    images = rand(6, 3, 8, 8)
    images[:, :, 0, 0] = 0
    images[:, :, 0, 1] = 1
    images[:, :, 0, 2] = 0.3
    images[:, :, 0, 3:6] = torch.eye(3)
    images[:, :, 0, 6] = torch.tensor([0.7, 0.7, 0.2])
    return images


FACTORS = {
    "brightness": (F.adjust_brightness, [0.2, 0.6, 1.0, 1.4, 1.8, 0.0]),
    "contrast": (F.adjust_contrast, [0.2, 0.6, 1.0, 1.4, 1.8, 0.0]),
    "saturation": (F.adjust_saturation, [0.2, 0.6, 1.0, 1.4, 1.8, 0.0]),
    "hue": (F.adjust_hue, [-0.5, -0.1, 0.0, 0.07, 0.2, 0.5]),
}


@pytest.mark.parametrize("name", FACTORS)
def test_jitter_is_torchvisions_for_each_image(name):
    operation, factors = FACTORS[name]
    images = grey_corners()
    got = apply([Recipe(jitter=((name, factor),)) for factor in factors], images)
    for image, factor, result in zip(images, factors, got):
        # torchvision's tensors are converted to grey with 0.2989 for red, ours with PIL's 0.299.
        torch.testing.assert_close(result, operation(image, factor), atol=3e-4, rtol=0)
    assert (got - images).abs().amax(dim=(1, 2, 3)).gt(0.01).sum() == 5  # all but the neutral factor


JITTER = (("brightness", 1.3), ("contrast", 0.7), ("saturation", 1.15), ("hue", -0.08))
RECIPES = [
    Recipe(),
    *(Recipe(jitter=order) for order in itertools.permutations(JITTER)),
    Recipe(grayscale=True),
    Recipe(solarize=True),
    Recipe(JITTER[1:3], grayscale=True),
]


def test_recipes_are_those_of_the_cpu_for_each_image():
    arrays = [noise(seed, 24, 28) for seed in range(len(RECIPES))]
    got = apply(RECIPES, torch.stack([to_tensor(array) for array in arrays]))
    for recipe, array, result in zip(RECIPES, arrays, got):
        expected = on_cpu(recipe, array)
        # The CPU cuts values down to 8 bits after each operation, which later ones enlarge; its hue has 8 bits too.
        atol = 14 / 255 if recipe.jitter else 1.01 / 255
        torch.testing.assert_close(result, expected, atol=atol, rtol=0)
        assert (result - expected).abs().mean() < 2.5 / 255


def test_orders_of_the_jitter_differ():
    images = rand(1, 3, 16, 16).expand(2, -1, -1, -1)
    first, second = apply([Recipe(jitter=JITTER), Recipe(jitter=JITTER[::-1])], images)
    assert (first - second).abs().max() > 0.02


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.3, 2.0])
def test_blur_is_that_of_the_cpu(sigma):
    image = render_scene(describe_scene(seed=0, index=2, height=48, width=64))[0]
    expected = on_cpu(Recipe(blur=sigma), image)
    got = apply([Recipe(blur=sigma)], to_tensor(image)[None])[0]
    # The blur on the CPU is made of boxes and of 8-bit values.
    assert (got - expected).abs().mean() < 1.2 / 255
    torch.testing.assert_close(got, expected, atol=10 / 255, rtol=0)
    if sigma > 0.1:
        other = apply([Recipe(blur=sigma * 1.4)], to_tensor(image)[None])[0]
        assert (other - expected).abs().mean() > 2 * (got - expected).abs().mean()


def test_blur_by_hand():
    impulse = torch.zeros(2, 1, 15, 15)
    impulse[:, :, 7, 7] = 1
    kernels = gaussian_kernels([0.5, 2.0])
    got = gaussian_blur(impulse, kernels)
    offsets = torch.arange(15.0) - 7
    for result, sigma in zip(got, [0.5, 2.0]):
        line = torch.exp(-(offsets**2) / (2 * sigma**2))
        line[offsets.abs() > 6] = 0
        torch.testing.assert_close(result[0], torch.outer(line, line) / line.sum() ** 2)
    flat = torch.full((1, 3, 5, 4), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, kernels[1:]), flat)  # nothing lost at the edges


def test_blur_comes_before_solarisation_and_grey_before_both():
    images = rand(1, 3, 16, 16)
    recipe = Recipe(grayscale=True, blur=1.0, solarize=True)
    steps = images
    for step in (Recipe(grayscale=True), Recipe(blur=1.0), Recipe(solarize=True)):
        steps = apply([step], steps)
    assert torch.equal(apply([recipe], images), steps)


def test_solarisation_threshold():
    values = torch.tensor([0.0, 127, 128, 255]).view(1, 1, 1, 4).expand(1, 3, 1, 4) / 255
    expected = torch.tensor([0.0, 127, 127, 0]).view(1, 1, 1, 4).expand(1, 3, 1, 4) / 255
    torch.testing.assert_close(apply([Recipe(solarize=True)], values), expected)


def test_images_keep_to_their_own_recipe_and_inputs_stay():
    images = rand(4, 3, 9, 9)
    before = images.clone()
    recipes = [Recipe(), Recipe(JITTER, blur=0.8), Recipe(solarize=True), Recipe(grayscale=True, blur=1.9)]
    got = apply(recipes, images)
    assert torch.equal(images, before)
    for i, recipe in enumerate(recipes):
        torch.testing.assert_close(got[i], apply([recipe], images[i : i + 1])[0])
    assert torch.equal(got[0], images[0])
    assert got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("recipe", [Recipe(grayscale=True), Recipe(blur=1.0), Recipe(solarize=True)])
@pytest.mark.parametrize("others", [[], [Recipe()]], ids=["all", "one of two"])
def test_inputs_stay_without_jitter(recipe, others):
    images = rand(1 + len(others), 3, 9, 9)
    before = images.clone()
    got = apply([recipe, *others], images)
    assert torch.equal(images, before) and not torch.equal(got[0], images[0])
    assert torch.equal(got[1:], images[1:]) and torch.equal(got[:1], apply([recipe], images[:1]))


@pytest.mark.parametrize("second", [Recipe(blur=1.0), Recipe(solarize=True), Recipe(JITTER)])
def test_what_is_done_to_all_images_precedes_what_is_done_to_some(second):
    images, first = rand(2, 3, 9, 9), Recipe(second.jitter, True, second.blur, second.solarize)
    got = apply([first, Recipe(grayscale=True)], images)
    for image, recipe, result in zip(images, (first, Recipe(grayscale=True)), got):
        torch.testing.assert_close(result, apply([recipe], image[None])[0])
    got += 1  # every pixel has memory of its own
    assert got.min() >= 1 and got.max() <= 2


@pytest.mark.parametrize("channels", [1, 4])
def test_colour_needs_rgb(channels):
    images = rand(2, channels, 8, 8)
    colours = Recipe(jitter=(("saturation", 0.3), ("hue", 0.2)), grayscale=True)
    assert torch.equal(apply([colours, Recipe()], images), images)
    recipe = Recipe(jitter=(("brightness", 0.5), ("contrast", 0.5)), blur=1.0, solarize=True)
    got = apply([recipe, recipe], images)
    assert got.shape == images.shape and not torch.equal(got, images)


def test_policy_is_the_distribution():
    images = rand(8, 3, 8, 8)
    policy = POLICIES["byol"][1]
    got = DevicePhotometric(policy)(images, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    assert torch.equal(got, apply([policy.sample(rng) for _ in range(8)], images))


def test_reproducible_by_torchs_seed():
    images, augment = rand(4, 3, 8, 8), DevicePhotometric(POLICIES["byol"][0])
    torch.manual_seed(1)
    first, second = augment(images), augment(images)
    torch.manual_seed(1)
    assert torch.equal(augment(images), first) and not torch.equal(first, second)
    assert torch.equal(DevicePhotometric(Policy())(images), images)


def test_formats():
    images = rand(2, 3, 4, 5)
    assert to_format(images, "RGB") is images
    assert torch.equal(to_format(images, "BGR"), images[:, [2, 1, 0]])
    grey = to_format(images, "L")
    assert grey.shape == (2, 1, 4, 5)
    torch.testing.assert_close(grey[:, 0], 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2])


def test_full_precision_under_autocast():
    images = rand(1, 3, 16, 16)
    recipe = Recipe(JITTER, blur=1.0)
    expected = apply([recipe], images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apply([recipe], images), expected)
