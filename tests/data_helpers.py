"""Images and configs for the tests of pixpro_d2.data, and a test of two samples' distributions."""

import contextlib
import itertools
import logging
import struct
import types
import zlib

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from PIL import Image

from pixpro_d2.config import add_pixpro_config
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.pretrain.loader import build_view_loader
from pixpro_d2.utils.errors import UsageError


def noise(seed, height, width, channels=3):
    """Array (height, width, channels), or (height, width) for no channels, of uint8."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def normal(*shape, seed=0, dtype=torch.float32):
    """Tensor of normal random numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dicts_of(name):
    """Dataset dicts of the data set ``name``, registered first."""
    ensure_registered([name])
    return DatasetCatalog.get(name)


def write_images(folder, count, size=(12, 16)):
    """Write ``count`` different PNG images of ``size`` (height, width); returns their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(noise(i, *size)).save(path)
    return paths


def write_tiff(path, planes, order="<", compress=False):
    """Write arrays (height, width) or (height, width, samples), a strip each, as grey for one sample, or as RGB."""
    (height, width), kind = planes[0].shape[:2], planes[0].dtype
    samples = len(planes) * (planes[0].shape[2] if planes[0].ndim == 3 else 1)
    content = bytearray(b"II*\0" if order == "<" else b"MM\0*") + bytes(4)
    starts, sizes = [], []
    for plane in planes:
        strip = plane.astype(kind.newbyteorder(order)).tobytes()
        strip = zlib.compress(strip) if compress else strip
        starts.append(len(content))
        sizes.append(len(strip))
        content += strip
    tags = {
        256: [width],
        257: [height],
        258: [8 * kind.itemsize] * samples,
        259: [8 if compress else 1],
        262: [1 if samples == 1 else 2],
        273: starts,
        277: [samples],
        278: [height],
        279: sizes,
        284: [2 if len(planes) > 1 else 1],
        339: ["uif".index(kind.kind) + 1] * samples,
    }
    entries = b""
    for tag, numbers in tags.items():
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            content += packed
            packed = struct.pack(f"{order}I", len(content) - len(packed))
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    content[4:8] = struct.pack(f"{order}I", len(content))
    path.write_bytes(content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


def make_cfg(*train, **keys):
    """Small pre-training config on the data sets ``train``; ``keys`` are config keys with __ for the dot."""
    cfg = get_cfg()
    add_pixpro_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.PIXPRO.CROP_SIZE = 8
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.DATASETS.TRAIN = train
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = 3
    for key, value in keys.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def take(loader, count):
    """The first ``count`` batches."""
    batches = iter(loader)
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()  # ends the workers


def stop_clock(monkeypatch):
    """Give pixpro_d2.utils.retry a clock that only its pauses move; returns the list of the pauses."""
    pauses = []
    clock = types.SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append)
    monkeypatch.setattr("pixpro_d2.utils.retry.time", clock)
    return pauses


@contextlib.contextmanager
def logged(name):
    """List that fills with what is logged below ``name``, whether or not its loggers pass it on."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def unreadable_of_an_epoch(cfg):
    """Number of files of an epoch that this process finds unreadable, and the error when all have told of theirs."""
    loader = build_view_loader(cfg)
    take(loader, loader.num_images // cfg.SOLVER.IMS_PER_BATCH)
    alone = len(loader.unreadable)
    with pytest.raises(UsageError) as caught:
        loader.share_unreadable()
    return alone, str(caught.value)


def assert_same_distribution(a, b, what=""):
    """Two-sample Kolmogorov-Smirnov test at the level 0.001."""
    a, b = np.sort(np.asarray(a, dtype=float)), np.sort(np.asarray(b, dtype=float))
    points = np.concatenate([a, b])
    shares = [np.searchsorted(sample, points, "right") / len(sample) for sample in (a, b)]
    distance = np.abs(shares[0] - shares[1]).max()
    bound = 1.95 * np.sqrt(1 / len(a) + 1 / len(b))
    assert distance < bound, f"{what}: Kolmogorov-Smirnov distance {distance:.4f}, expected below {bound:.4f}"


def describe_images(images):
    """Statistics of each of N images (3, H, W) of values in [0, 255], by name: arrays (N,)."""
    pixels = np.stack(images).astype(np.float32)
    return {
        "mean red": pixels[:, 0].mean((1, 2)),
        "mean blue": pixels[:, 2].mean((1, 2)),
        "mean": pixels.mean((1, 2, 3)),
        "std": pixels.std((1, 2, 3)),
        "saturation": (pixels.max(1) - pixels.min(1)).mean((1, 2)),
        "sharpness": np.abs(np.diff(pixels, axis=3)).mean((1, 2, 3)),
    }


def first_batches(cfgs, count):
    """The first batches that this process gets for each config."""
    return [take(build_view_loader(cfg), count) for cfg in cfgs]
