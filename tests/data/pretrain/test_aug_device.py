"""The photometric augmentation in the workers, and left to the model: the same views."""

import numpy as np
import pytest
import torch
from data_helpers import assert_same_distribution, describe_images, make_cfg
from detectron2.modeling import build_model
from PIL import Image
from torch.utils.data import DataLoader

import configs
from pixpro_d2.data.pretrain.collate import collate
from pixpro_d2.data.pretrain.device_photometric import apply_recipes, to_format
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.extras.scenes.scene import describe_scene, render_scene


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(render_scene(describe_scene(seed=0, index=2, height=60, width=80))[0]).save(path)
    return {"file_name": str(path)}


def _mappers(**keys):
    cfg = make_cfg(INPUT__PIXPRO__CROP_SIZE=32, **keys)
    return [TwoViewMapper(cfg, aug_device=device) for device in ("cpu", "model")]


def _views(batch, image_format="RGB"):
    """(N, 2, C, S, S) in [0, 255] of a batch, augmented where the workers left it."""
    if "recipes" not in batch:
        return batch["views"].float()
    views = zip(batch["views"].unbind(1), batch["recipes"])
    return 255 * torch.stack([to_format(apply_recipes(x / 255, recipes), image_format) for x, recipes in views], dim=1)


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_the_same_recipes_give_nearly_the_same_views(image, image_format):
    mean = [128.0] if image_format == "L" else [128.0] * 3
    cpu, model = (
        collate([mapper(image, np.random.default_rng(seed)) for seed in range(40)])
        for mapper in _mappers(INPUT__FORMAT=image_format, MODEL__PIXEL_MEAN=mean)
    )
    assert "recipes" not in cpu and len(model["recipes"]) == 2
    assert model["views"].shape == (40, 2, 3, 32, 32) and model["views"].dtype == torch.uint8
    assert torch.equal(cpu["boxes"], model["boxes"]) and torch.equal(cpu["image_sizes"], model["image_sizes"])
    ours, theirs = _views(cpu), _views(model, image_format)
    difference = (ours - theirs).abs()
    # The CPU cuts down to whole levels after each operation. The few pixels next to 128 are turned over or not.
    assert difference.mean() < 2
    assert difference.mean(dim=(2, 3, 4)).max() < 5
    assert (theirs - model["views"]).abs().mean() > 10  # something was done at all


def test_distributions_are_equal(image):
    # Two samples of 500 images agree within a Kolmogorov-Smirnov distance of 0.123 in each statistic.
    cpu, model = (
        collate([mapper(image, np.random.default_rng((i, seed))) for seed in range(500)])
        for i, mapper in enumerate(_mappers())
    )
    for view in range(2):
        ours, theirs = (describe_images(_views(batch)[:, view].numpy()) for batch in (cpu, model))
        for what, values in ours.items():
            assert_same_distribution(values, theirs[what], f"{what} of view {view}")


def test_recipes_come_through_the_workers(image):
    mapper = _mappers()[1]
    samples = [mapper(image, np.random.default_rng(seed)) for seed in range(6)]
    (batch,) = DataLoader(samples, batch_size=6, collate_fn=collate, num_workers=1)
    expected = collate(samples)
    for recipes, others in zip(batch["recipes"], expected["recipes"]):
        assert type(recipes) is type(others) and recipes.hue_counts == others.hue_counts
        assert all(torch.equal(a, b) for a, b in zip(recipes, others) if isinstance(a, torch.Tensor))


@pytest.mark.parametrize("image_format", ["BGR", "L"])
def test_the_model_applies_what_the_workers_left(image, image_format):
    mean = [50.0] if image_format == "L" else [50.0, 100.0, 150.0]
    opts = ["INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", [2.0] * len(mean)]
    cpu, model = (
        collate([mapper(image, np.random.default_rng(seed)) for seed in range(4)])
        for mapper in _mappers(INPUT__FORMAT=image_format, MODEL__PIXEL_MEAN=mean)
    )
    pixpro = build_model(configs.tiny(*opts))
    (ours, boxes), (theirs, same_boxes) = pixpro.views_and_geometry(cpu), pixpro.views_and_geometry(model)
    for x, y in zip(ours, theirs):
        assert x.shape == y.shape and (x - y).abs().mean() < 1 and x.std() > 5  # a level is half a unit
    assert all(torch.equal(x, y) for x, y in zip(boxes, same_boxes))
