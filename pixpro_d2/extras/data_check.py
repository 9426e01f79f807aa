"""Describe a data set, list its problems, and draw its first images with their labels."""

import functools
import itertools
import os
import statistics
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.utils.visualizer import Visualizer
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from ..data.datasets.catalog import ensure_registered, load_dicts
from ..data.datasets.semseg import read_label
from ..data.datasets.video import list_frames
from ..data.downstream.tasks import BOXES, LABEL_MAPS, labels_of
from ..data.inspection.records import Report, inspect
from ..data.inspection.stored_values import describe_values
from ..data.inspection.videos import VideoReport, inspect_videos
from ..data.io.reader import read_image
from ..engine.configuration.config_checks import check_pixel_range
from ..evaluation.checks import evaluation_errors, evaluation_warnings
from ..flow_files import FlowFiles
from ..utils.archives import is_archive
from ..utils.errors import UsageError
from ..utils.files import check_folder_of, report_write_errors, write_file
from ..visualization.detections import draw_detections
from ..visualization.figures import LINE, MARGIN, add_image, new_figure, palette, text_width, to_image
from ..visualization.segmentation import draw_segmentation

SAMPLE = 200  # images or videos that are decoded without --all
MAX_PROBLEMS = 10  # printed problems
MAX_PICTURES = 4  # written pictures
NAME_LENGTH = 60  # characters of an image's name in the name of its picture, of at most 4 bytes each
EXTREME_CLASSES = 10  # printed classes from either end of a long list
UNLABELLED = "  no labels: for pre-training only"


def describe(name: str, report: Report) -> list[str]:
    """Return lines of text about a data set, without its problems."""
    lines = [f"{name}: {report.images} images, {report.opened} of them opened", *_sides(report.sizes)]
    lines += describe_values(report.values, report.pixel_range)
    labels, count = report.labels, len(report.classes)
    if labels is None:
        return [*lines, UNLABELLED]
    lines.append(f"  {labels.task}, {count} classes; runs set {labels.number_keys}")
    total = max(1, report.counts.total())
    rows = [(i, x, report.counts[i], f"{100 * report.counts[i] / total:.1f} %") for i, x in enumerate(report.classes)]
    if len(rows) > 2 * EXTREME_CLASSES + 80:  # print all of COCO's 80 classes
        rows.sort(key=lambda row: -row[2])
        lines.append(f"  the {EXTREME_CLASSES} most frequent classes and the {EXTREME_CLASSES} rarest:")
        rows = rows[:EXTREME_CLASSES] + rows[-EXTREME_CLASSES:]
    lines += tabulate(rows, headers=("class", "name", labels.unit, "share")).splitlines()
    return lines + ([_masks(report)] if labels is BOXES else [])


def _masks(report: Report) -> str:
    """Return a line of text about the masks of objects, with the config keys to set."""
    formats = report.masks.keys() - {""}
    if not formats:
        return "  no masks: set MODEL.MASK_ON False"
    return f"  masks: set MODEL.MASK_ON True and INPUT.MASK_FORMAT {min(formats)}"


def describe_videos(name: str, report: VideoReport) -> list[str]:
    """Return lines of text about a data set of videos, without its problems."""
    frames = report.frames
    shortest = min(frames, key=lambda name: frames[name])
    lines = [
        f"{name}: {len(frames)} videos of {sum(frames.values())} frames, {report.opened} of them opened",
        f"  length: {_min_median_max(frames.values(), 'frames')}; INPUT.PIXPRO.N_FRAMES above {frames[shortest]} "
        f"skips {shortest}",
        *_sides(report.sizes),
        *describe_values(report.values, report.pixel_range),
    ]
    if report.with_flow is not None:
        lines.append(f"  optical flow: of {report.with_flow} videos")
    return [*lines, UNLABELLED]


def _sides(sizes: Iterable[tuple[int, int]]) -> list[str]:
    """Return lines of text about the (width, height) of images."""
    pairs = zip(("width", "height"), zip(*sizes))
    return [f"  {side}: {_min_median_max(values, 'pixels')}" for side, values in pairs]


def _min_median_max(values: Collection[int], unit: str) -> str:
    return f"{min(values)} / {statistics.median(values):g} / {max(values)} {unit} (min/median/max)"


def draw(record: dict[str, Any], metadata: Metadata, pixel_range: tuple[float, ...]) -> Image.Image:
    """Draw an image with its labels, or the first frame of a video."""
    is_video = "num_frames" in record
    image = read_image(list_frames(record["file_name"])[0] if is_video else record["file_name"], pixel_range)
    labels = labels_of(record)
    if labels is LABEL_MAPS:
        return draw_segmentation(image, read_label(record["sem_seg_file_name"]), metadata.stuff_classes)
    if labels is BOXES:
        names, annotations = metadata.thing_classes, record["annotations"]
        masked = _with_masks(image, annotations, palette(len(names)))
        return draw_detections(masked, annotations, {}, names, side=max(300, *image.size), legend=False)
    caption = metadata.classes[record["category_id"]] if labels else "no labels"
    width = max(image.width, round(text_width(caption)))
    figure = new_figure(width + 2 * MARGIN, image.height + LINE + 2 * MARGIN)
    add_image(figure, image, (MARGIN, MARGIN), image.size, caption)
    return to_image(figure)


def _with_masks(image: Image.Image, annotations: Iterable[dict[str, Any]], colours: Sequence[str]) -> Image.Image:
    """Draw the masks of objects in the colours of their categories."""
    masked = [annotation for annotation in annotations if annotation.get("segmentation") is not None]
    drawing = Visualizer(np.asarray(image))
    drawing.overlay_instances(
        masks=[annotation["segmentation"] for annotation in masked],
        assigned_colors=[colours[annotation["category_id"]] for annotation in masked],
        alpha=0.6,
    )
    return Image.fromarray(drawing.get_output().get_image())


def save_pictures(
    dicts: Sequence[dict[str, Any]],
    metadata: Metadata,
    folder: str | Path,
    unsound: Collection[int],
    pixel_range: tuple[float, ...],
) -> list[Path]:
    """Write the first MAX_PICTURES images with their labels to ``folder`` as PNG; return the paths.

    Images with indices in ``unsound`` are skipped, because their labels cannot be drawn.
    """
    with report_write_errors(str(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    paths = []
    sound = (dicts[i] for i in range(len(dicts)) if i not in unsound)
    for i, record in enumerate(itertools.islice(sound, MAX_PICTURES)):
        path = Path(folder, f"{i}_{Path(record['file_name']).stem[:NAME_LENGTH]}.png")
        draw(record, metadata, pixel_range).save(path)
        paths.append(path)
    return paths


def check_data(
    name: str,
    sample_all: bool,
    pictures: str | None,
    flow_folder: str | None,
    pixel_range: tuple[float, ...],
    list_file: str | None = None,
) -> int:
    """Print a description of a data set and its problems; return the number of problems.

    Args:
        name: registered name or address; a folder or an archive alone is one of images.
        sample_all: decode all images, not only ``SAMPLE`` of them.
        pictures: folder for the first images with their labels; None for none.
        flow_folder: for videos, folder of their flow; None for none.
        pixel_range: INPUT.PIXEL_RANGE.
        list_file: file for all problems, one a line; None for none.

    Raises:
        UsageError: for a mistake in the arguments, a data set that cannot be loaded, or a file that cannot be written.
        UnreadableImage: for a picture to draw that cannot be read.
    """
    check_pixel_range("--pixel-range", pixel_range)
    if list_file:
        check_folder_of(list_file)
    if ":" not in name and name not in DatasetCatalog.list() and (os.path.isdir(name) or is_archive(name)):
        name = f"images:{name}"
    ensure_registered([name])
    dicts = load_dicts(name)
    metadata = MetadataCatalog.get(name)
    sample = None if sample_all else SAMPLE
    report: Report | VideoReport
    progress = functools.partial(tqdm, desc="check", unit="", leave=False, disable=None)  # shown on a terminal
    if "num_frames" in dicts[0]:
        unsound: Collection[int] = ()
        flow = FlowFiles(flow_folder) if flow_folder else None
        videos = report = inspect_videos(dicts, flow, sample, progress, pixel_range)
        lines = describe_videos(name, videos)
    elif flow_folder:
        raise UsageError(f"--flow is for videos, but data set '{name}' has images.")
    else:
        images = report = inspect(dicts, metadata, sample, progress, pixel_range=pixel_range)
        images.warnings += evaluation_warnings(name)
        images.errors += evaluation_errors(name)
        unsound = images.unsound
        lines = describe(name, images)
    print("\n".join(lines))
    _print_problems(report.problems, list_file)
    if pictures:
        for path in save_pictures(dicts, metadata, pictures, unsound, pixel_range):
            print(f"wrote {path}")
    return len(report.problems)


def _print_problems(problems: Sequence[str], list_file: str | None) -> None:
    """Print the first problems, and write all problems to a file, one a line."""
    for problem in problems[:MAX_PROBLEMS]:
        print(f"problem: {problem}")
    if len(problems) > MAX_PROBLEMS:
        print(f"... and {len(problems) - MAX_PROBLEMS} more problems; --problems FILE lists all")
    if list_file:
        text = "".join(f"{problem}\n" for problem in problems)
        with report_write_errors(list_file):
            write_file(list_file, lambda path: Path(path).write_text(text, "utf-8", errors="backslashreplace"))
        print(f"wrote {list_file}")
