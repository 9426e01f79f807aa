"""Render a small synthetic data set.

``python -m pixpro_d2.tools.render OUT`` writes images of textured shapes on cluttered backgrounds, with boxes and
masks. The Pascal VOC and COCO layouts share one folder and its images. ``--layout`` adds the layouts of Cityscapes and
of ImageNet (one folder for each class).
"""

import argparse
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..command_line import ShownDefaults, at_least, one_sentence, program
from ..extras.scenes.scene import KINDS, describe_scene, render_scene
from ..extras.scenes.writers import WRITERS, Sample
from ..utils.errors import UsageError
from ..utils.files import read_json, report_write_errors, write_json

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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("render"),
        description="Render a small synthetic data set.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--train", type=int, default=200, help="images to train on")
    parser.add_argument("--test", type=int, default=50, help="images to test on")
    parser.add_argument("--size", type=int, default=160, help="height and width of the images, pixels")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the scenes")
    parser.add_argument(
        "--layout", nargs="+", choices=WRITERS, default=["voc", "coco"], help="annotation files to write"
    )
    parser.add_argument("--plain", action="store_true", help="backgrounds without clutter: much easier to detect on")
    parser.add_argument(
        "--objects",
        choices=KINDS,
        default="shapes",
        help="shapes: only the outline tells the class; things: pattern and hue, too, much easier to learn",
    )
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    written = render_dataset(
        args.out, args.train, args.test, args.size, args.seed, args.layout, not args.plain, args.objects
    )
    did = "wrote" if written else "nothing to do, it already holds"
    layouts = " and ".join(args.layout)
    print(f"{args.out}: {did} {args.train} train and {args.test} test images ({layouts} layout)")
    print("Names of its splits for train_net.py:")
    for split, count in (("train", args.train), ("test", args.test)):
        if count:
            print("".join(f"  {name}\n" for name in dataset_names(args.out, split, args.layout)), end="")


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


if __name__ == "__main__":
    main()
