"""Small data sets and configs for the tests of the training stream, and what one of several processes gets from it."""

import json

import numpy as np
import torch
from data_helpers import make_cfg, noise, take
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.structures import Instances
from PIL import Image

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.downstream.build import build_train_loader

SIZES = ((48, 32), (32, 48), (40, 40))  # (width, height) in turn: one image of three is wider than high
SMALL = {"INPUT__MIN_SIZE_TRAIN": (24, 32, 40), "INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.6, 0.6]}


def write_boxes(folder, count):
    """Write a COCO data set of ``count`` images of noise, the first of class 0, the others of 1; returns its name."""
    folder.mkdir()
    images, boxes = [], []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        Image.fromarray(noise(i, height, width)).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        box = {"id": i + 1, "image_id": i, "category_id": min(i, 1), "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
        boxes.append(box)
    categories = [{"id": i, "name": f"class {i}"} for i in range(2)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return f"coco:{folder}/boxes.json@{folder}"


def stream_cfg(name, **keys):
    """Config of a detector on data set ``name``, with random sizes, crops and flips."""
    ensure_registered([name])
    cfg = make_cfg(name, **{**SMALL, **keys})
    add_deeplab_config(cfg)
    return cfg


def image_ids(batches):
    """The image ids of batches of samples."""
    return [[sample["image_id"] for sample in batch] for batch in batches]


def plain(value):
    """A sample, or a part of it, of numbers, strings, arrays, lists and dicts only, to be compared."""
    if isinstance(value, Instances):
        return {"size": value.image_size, **plain(value.get_fields())}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if hasattr(value, "tensor"):  # boxes and masks
        return value.tensor.numpy()
    return value


def assert_equal_batches(batches, others):
    """Equal to the last pixel."""
    assert len(batches) == len(others) > 0
    np.testing.assert_equal(plain(batches), plain(others))


def first_samples(cfgs, count):
    """The first batches, :func:`plain`, that this process gets for each config."""
    for cfg in cfgs:
        ensure_registered(cfg.DATASETS.TRAIN)
    return [plain(take(build_train_loader(cfg), count)) for cfg in cfgs]
