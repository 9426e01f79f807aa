"""Provide the batches of a measured step."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch.utils._pytree import tree_map_only

from ...data.pretrain.collate import collate
from ...data.pretrain.loader import build_view_loader
from ...data.pretrain.mapper import TwoViewMapper
from ...utils.errors import UsageError

IMAGE_SIZE = (375, 500)  # (height, width), the most frequent size in ImageNet


def build_batches(cfg: CfgNode, source: str) -> Iterable[dict[str, Any]]:
    """Return endless batches as :func:`pixpro_d2.data.pretrain.collate.collate` makes them.

    Args:
        cfg: config of a pre-training.
        source: ``synthetic`` repeats one batch of noise from the host's memory, which every step copies to the device.
            ``cached`` repeats the batch from the memory of the device. ``loader`` reads DATASETS.TRAIN.
    """
    if source == "loader":
        return build_view_loader(cfg)
    batch = synthetic_batch(cfg, cfg.SOLVER.IMS_PER_BATCH)
    if source == "cached":
        batch = tree_map_only(torch.Tensor, lambda x: x.to(cfg.MODEL.DEVICE), batch)
    elif cfg.MODEL.DEVICE.startswith("cuda"):
        batch = tree_map_only(torch.Tensor, torch.Tensor.pin_memory, batch)
    return Repeated(batch)


class Repeated:
    """Repeat the same batch without end."""

    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self.batch


def synthetic_batch(cfg: CfgNode, count: int) -> dict[str, Any]:
    """Return a batch of ``count`` images whose views are noise, with boxes and recipes as the mapper draws them.

    Raises:
        UsageError: for pre-training on videos, because there is no synthetic optical flow.
    """
    if cfg.INPUT.PIXPRO.N_FRAMES > 1:
        raise UsageError(
            "There are no synthetic videos: measure INPUT.PIXPRO.N_FRAMES above 1 with `step --source loader`."
        )
    rng = np.random.default_rng(max(cfg.SEED, 0))
    mapper = TwoViewMapper(cfg)
    height, width = IMAGE_SIZE
    channels = 3 if mapper.aug_device == "model" else len(cfg.MODEL.PIXEL_MEAN)  # the model gets RGB views
    shape = (2, channels, mapper.crop_size, mapper.crop_size)
    samples = []
    for _ in range(count):
        views = mapper.draw_views(rng, width, height)
        sample = {
            "views": rng.integers(0, 256, shape, dtype=np.uint8),
            "boxes": np.stack([view.box for view in views]),
            "image_size": IMAGE_SIZE,
            "file_name": "noise",
        }
        if mapper.aug_device == "model":
            sample["recipes"] = [policy.sample(rng) for policy in mapper.policies]
        samples.append(sample)
    return collate(samples)
