"""Measure the input pipeline: CPU time of its stages, comparison with a plain pipeline, and the loader as a whole.

CPU time of one thread is measured, so images per second refer to one core, however busy the machine is.
"""

import contextlib
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode

from ...data.io.reader import EncodedImage
from ...data.pretrain.collate import collate
from ...data.pretrain.loader import build_view_loader
from ...data.pretrain.mapper import TwoViewMapper
from ...data.pretrain.photometric import apply
from .plain_pipeline import PlainTwoViews

BATCH_SIZE = 32
REPETITIONS = 5


def stage_times(
    cfg: CfgNode, images: Sequence[dict[str, Any]], count: int, repetitions: int = REPETITIONS
) -> dict[str, float]:
    """Measure the CPU time of the stages of an image and its two views.

    Args:
        cfg: config of a pre-training.
        images: dataset dicts.
        count: number of images to measure, from the first.
        repetitions: number of repetitions for the median, after one repetition to warm up.

    Returns:
        Milliseconds per image.

        * read: the file, and the image's size; formats other than JPEG are decoded here;
        * decode: at the size that the views need;
        * crop and resize: both views;
        * photometric: both views;
        * collate: into batches;
        * sample, cpu and sample, model: all stages but collate, as the loader's workers run them with INPUT.AUG_DEVICE
          ``cpu`` and ``model``. The stages are the stages of ``cpu``.
    """
    images = images[:count]
    mappers = {device: TwoViewMapper(cfg, aug_device=device) for device in ("cpu", "model")}
    runs = []
    with one_thread():
        for seed in range(repetitions + 1):
            stages = Stages()
            _run_stages(stages, mappers["cpu"], images, seed)
            for device, mapper in mappers.items():
                rng = np.random.default_rng(seed)
                for image in images:
                    with stages(f"sample, {device}"):
                        mapper(image, rng)
            runs.append(stages.seconds)
    return {name: statistics.median(1000 * run[name] / len(images) for run in runs[1:]) for name in runs[0]}


def _run_stages(stages: "Stages", mapper: TwoViewMapper, images: Sequence[dict[str, Any]], seed: int) -> None:
    """Run the mapper and collate, one stage after the other."""
    rng = np.random.default_rng(seed)
    samples = []
    for dataset_dict in images:
        with stages("read"):
            image = EncodedImage(dataset_dict["file_name"], mapper.pixel_range)
        width, height = image.size
        views = mapper.draw_views(rng, width, height)
        recipes = [policy.sample(rng) for policy in mapper.policies]
        with stages("decode"):
            pixels, shrink = image.decode(mapper.max_shrink(views))
        with stages("crop and resize"):
            crops = [view.render(pixels, mapper.crop_size, shrink, mapper.interpolation) for view in views]
        with stages("photometric"):
            crops = [apply(recipe, crop) for recipe, crop in zip(recipes, crops)]
        boxes = np.stack([view.box for view in views])
        sample = {"views": np.stack(crops), "boxes": boxes, "image_size": image.size[::-1], **dataset_dict}
        samples.append(sample)
    for start in range(0, len(samples), BATCH_SIZE):
        with stages("collate"):
            collate(samples[start : start + BATCH_SIZE])


def compare_pipelines(
    cfg: CfgNode, images: Sequence[dict[str, Any]], count: int, repetitions: int = REPETITIONS
) -> dict[str, dict[str, float]]:
    """Measure the images per second of a core, with a plain pipeline and with ours.

    The pipelines take turns. Each repetition uses the same images; a ratio compares times of the same repetition. See
    :func:`stage_times` for the arguments.

    Returns:
        Median, lowest and highest over the repetitions. ``plain`` is in images per second. So are ``cpu`` and
        ``model``, the work of the loader's workers with this INPUT.AUG_DEVICE. Ratios are ``cpu / plain`` and ``model /
        plain``.
    """
    images = images[:count]
    ours = {device: TwoViewMapper(cfg, aug_device=device) for device in ("cpu", "model")}
    plain = PlainTwoViews(ours["cpu"].policies, ours["cpu"].crop_size, ours["cpu"].min_scale)
    runs = []
    with one_thread():
        for _ in range(repetitions + 1):
            stages = Stages()
            for name, mapper in {"plain": lambda image: plain(image["file_name"]), **ours}.items():
                with stages(name):
                    for image in images:
                        mapper(image)
            rates = {name: len(images) / seconds for name, seconds in stages.seconds.items()}
            runs.append({**rates, **{f"{name} / plain": rates[name] / rates["plain"] for name in ours}})
    return {name: _range_of([run[name] for run in runs[1:]]) for name in runs[0]}


def loader_rate(cfg: CfgNode, seconds: float) -> dict[str, float]:
    """Measure the images per second of the pre-training loader, in wall time, after its workers have started.

    Args:
        cfg: config of a pre-training; DATALOADER.NUM_WORKERS is the number of workers.
        seconds: shortest time to measure.

    Returns:
        images_per_second, images, seconds, workers.
    """
    batches: Any = iter(build_view_loader(cfg))  # a generator
    # Workers have this many batches ready or in progress, both when the clock starts and when it stops.
    for _ in range(max(1, 2 * cfg.DATALOADER.NUM_WORKERS)):
        next(batches)
    images, start, passed = 0, time.perf_counter(), 0.0
    while passed < seconds:
        images += len(next(batches)["views"])
        passed = time.perf_counter() - start
    batches.close()  # ends the workers
    return {
        "images_per_second": images / passed,
        "images": images,
        "seconds": passed,
        "workers": cfg.DATALOADER.NUM_WORKERS,
    }


class Stages:
    """Sum CPU seconds by the name of a stage: ``with stages("decode"): ...`` adds to the sum."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch and OpenCV to one thread."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _range_of(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
