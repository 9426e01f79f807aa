"""Render a data set of images, complete or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...utils.errors import UsageError
from ...utils.files import read_json, report_write_errors, write_json
from .scene import describe_scene, render_scene
from .writers import WRITERS, Sample

RECORD = "render.json"  # file with the options of a finished render
FORMAT = 2  # increase with every change of a layout, so that older renders are not reused

# layout -> names of the data sets of a split, for DATASETS.TRAIN and TEST
NAME_FORMATS = {
    "voc": ("voc:{out}@{split}", "voc_seg:{out}@{split}"),
    "coco": ("coco:{out}/annotations/{split}.json@{out}/JPEGImages",),
    "cityscapes": ("cityscapes:{out}@{split}", "cityscapes_instance:{out}@{split}"),
    "classes": ("classes:{out}/{split}",),
}


def render_dataset(
    out: str | Path,
    train: int = 200,
    test: int = 50,
    size: int = 160,
    seed: int = 0,
    layouts: Sequence[str] = ("voc", "coco"),
    clutter: bool = True,
    kind: str = "shapes",
) -> bool:
    """Render a data set into a new folder.

    Images are ``JPEGImages/000000.jpg`` and so on, the train split first. Image ``i`` shows scene ``i`` of the series
    ``seed``. A split without images is skipped.

    Args:
        out: folder to make; it may exist if it is empty or holds a finished render with these options.
        train: number of images in the train split.
        test: number of images in the test split.
        size: height and width of the images, pixels.
        seed: seed of the series of scenes, not negative.
        layouts: keys of ``WRITERS``.
        clutter: whether the backgrounds are cluttered, which makes detection much harder.
        kind: kind of the objects, a key of ``KINDS``.

    Returns:
        Whether anything was written; False if ``out`` already holds this render.

    Raises:
        UsageError: if the options are invalid, or ``out`` holds anything else.
    """
    out = Path(out).resolve()
    options: dict[str, Any] = {
        "train": train,
        "test": test,
        "size": size,
        "seed": seed,
        "layouts": sorted(set(layouts)),
    }
    options |= {"clutter": bool(clutter), "format": FORMAT} | ({"kind": kind} if kind != "shapes" else {})
    _check(options)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if read_json(out / RECORD) == options:
            return False
        raise UsageError(f"{out} exists and holds something else: remove it or choose another folder")

    with report_write_errors(str(out)):
        out.parent.mkdir(parents=True, exist_ok=True)
    # Render beside the final place and rename at the end: nobody sees a half-written folder.
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        with tqdm(total=train + test, desc="render", unit="image") as progress:
            for split, numbers in (("train", range(train)), ("test", range(train, train + test))):
                if not numbers:
                    continue
                samples = _samples(numbers, size, seed, clutter, kind)
                for layout in options["layouts"]:
                    samples = WRITERS[layout](partial, split, samples)
                for _ in samples:
                    progress.update()
        write_json(partial / RECORD, options)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def dataset_names(out: str | Path, split: str, layouts: Sequence[str]) -> list[str]:
    """Return the names of the data sets of a split ("train" or "test") of a render, one or two for each layout."""
    names = []
    for layout in layouts:
        # The second split of Cityscapes with public labels is val.
        name = "val" if layout == "cityscapes" and split == "test" else split
        names += [form.format(out=Path(out), split=name) for form in NAME_FORMATS[layout]]
    return names


def _check(options: dict[str, Any]) -> None:
    if not options["layouts"] or not set(options["layouts"]) <= set(WRITERS):
        raise UsageError(f"layouts are one or more of {sorted(WRITERS)}, not {options['layouts']}")
    counts = options["train"], options["test"]
    if min(*counts, options["seed"]) < 0 or not any(counts):
        raise UsageError("the seed and the numbers of images must not be negative, nor both numbers zero")
    if "voc" in options["layouts"] and 1 in counts:
        raise UsageError("detectron2 cannot read a VOC split of a single image: render two or more, or none")


def _samples(numbers: Iterable[int], size: int, seed: int, clutter: bool, kind: str) -> Iterator[Sample]:
    for number in numbers:
        scene = describe_scene(seed, number, size, size, clutter, kind)
        image, masks = render_scene(scene)
        yield Sample(number, scene, image, masks)
