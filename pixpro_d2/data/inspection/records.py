"""Check the files, sizes, labels and counts of a data set for any task."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata

from ...utils.archives import split_member
from ...utils.errors import UnreadableImage, UsageError
from ..datasets.object_checks import box_error, box_warning, mask_error, mask_format
from ..datasets.semseg import IGNORE_LABEL, read_label
from ..downstream.tasks import BOXES, CATEGORIES, LABEL_MAPS, Labels, labels_of
from ..io.reader import header_source, is_file, read_image, read_size
from .stored_values import FileValues, read_values, value_problems

# Ratio of the sides from which few random crops fit: then 24 % of the views are the largest crop in the middle with
# INPUT.PIXPRO.MIN_SCALE 0.08, 84 % with 0.2 as in quickstart.
LONG = 5
MANY_LONG = 0.05  # a larger share of such images is reported
FEW_CROWDS, MANY_CROWDS = 10, 0.1  # a larger number and share of crowds is reported; COCO has 1 %
THREADS = 8  # number of files read at the same time


@dataclass
class Report:
    """Hold the results of :func:`inspect`."""

    labels: Labels | None  # None for images without labels
    classes: list[str]  # names of the classes
    images: int  # number of images
    opened: int = 0  # number of decoded images
    sizes: list[tuple[int, int]] = field(default_factory=list)  # (width, height) of the decoded images
    long: list[str] = field(default_factory=list)  # names and sizes of decoded images without labels that are LONG
    counts: Counter = field(default_factory=Counter)  # class number -> number of boxes, pixels or images
    ignored: int = 0  # number of pixels of label maps that do not count
    # "polygon", "bitmask" or "" for no mask -> image index of each such object
    masks: dict[str, list[int]] = field(default_factory=dict)
    crowds: int = 0  # number of objects that training skips, because they are marked as crowds
    errors: list[str] = field(default_factory=list)  # sentences: a run would fail, or its results would be wrong
    warnings: list[str] = field(default_factory=list)  # sentences: a run is still possible
    unsound: set[int] = field(default_factory=set)  # indices of images with an error
    pixel_range: tuple[float, ...] = ()  # INPUT.PIXEL_RANGE
    values: list[FileValues] = field(default_factory=list)  # values of the decoded images

    @property
    def problems(self) -> list[str]:
        """Return all sentences: first the few warnings, which are of the whole data set, then the errors."""
        return self.warnings + self.errors

    def add_errors(self, image: int, sentences: list[str]) -> None:
        """Add errors of the image with index ``image``."""
        self.errors += sentences
        self.unsound.update([image] if sentences else [])


@dataclass
class Files:
    """Describe the files of an image."""

    size: tuple[int, int] | None = None  # (width, height) of the image
    values: FileValues | None = None  # of a decoded image
    label_size: tuple[int, ...] | None = None  # (width, height) of the label map
    label_counts: Counter = field(default_factory=Counter)  # id -> number of pixels
    errors: list[str] = field(default_factory=list)


def inspect(
    dicts: Sequence[dict[str, Any]],
    metadata: Metadata,
    sample: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
    masks: str | None = None,
    pixel_range: tuple[float, ...] = (),
) -> Report:
    """Check the files, annotations and label maps of a data set, and the sizes of all annotated images.

    Args:
        dicts: detectron2 dataset dicts.
        metadata: metadata of the data set.
        sample: number of images, evenly spaced, to decode for damage; None decodes all images.
        progress: wraps an iterable to show the progress.
        masks: INPUT.MASK_FORMAT if each object needs a mask, "" if masks do not matter. By default each object
            needs a mask if another object has a mask.
        pixel_range: INPUT.PIXEL_RANGE of the config for the run.
    """
    labels, count = labels_of(dicts[0]), len(dicts)
    classes = list(metadata.get(labels.classes, None) or []) if labels else []
    decoded = range(0, count if sample != 0 else 0, max(1, -(-count // sample)) if sample else 1)
    report = Report(labels, classes, images=count, pixel_range=pixel_range)
    ignored = metadata.get("ignore_label", None)
    ignored = IGNORE_LABEL if ignored is None else ignored
    with ThreadPoolExecutor(THREADS) as pool:
        # Pass the index, because a future keeps its arguments, and dicts would all stay in memory.
        looks = pool.map(lambda i: _look_at(dicts[i], labels, i in decoded, pixel_range), range(count))
        for i in progress(range(count)):
            _add_image(report, i, dicts[i], next(looks), masks, ignored)
    report.warnings += value_problems(report.values, pixel_range)
    if len(report.long) > MANY_LONG * report.opened:
        report.warnings.append(
            f"{len(report.long)} of {report.opened} opened images are {LONG} : 1 or longer, for example "
            f"{report.long[0]}, and many of their views are the same crop in the middle: cut these images into tiles"
        )
    if labels is BOXES and not (report.counts or report.errors):
        report.warnings.append("no image has an annotated object: there is nothing to train on, and AP is NaN")
    if report.crowds > max(FEW_CROWDS, MANY_CROWDS * report.counts.total()):
        report.warnings.append(
            f"{report.crowds} of {report.counts.total()} objects have iscrowd 1, and training skips them: set iscrowd "
            "0 where an object is a single one, as CVAT's brush masks are"
        )
    _check_class_names(report)
    _check_masks(dicts, masks, report)
    if labels is LABEL_MAPS:
        _check_variety(ignored, report)
    return report


def _add_image(
    report: Report, image: int, record: dict[str, Any], files: Files, masks: str | None, ignored: int
) -> None:
    """Add an image to the report: its size, its values, its labels and its errors."""
    if files.size and files.values:
        report.opened += 1
        report.sizes.append(files.size)
        report.values.append(files.values)
        if report.labels is None and max(files.size) >= LONG * min(files.size):
            report.long.append(f"{record['file_name']} ({_times(files.size)})")
    report.add_errors(image, files.errors + _size_errors(record, files))
    if report.labels is LABEL_MAPS:
        report.ignored += files.label_counts.pop(ignored, 0)
        _count(report, image, files.label_counts, record.get("sem_seg_file_name", ""))
    elif report.labels is BOXES:
        _check_objects(image, record, files.size, masks, report)
    elif report.labels is CATEGORIES:
        _count(report, image, Counter([record["category_id"]]), record["file_name"])


def _look_at(record: dict[str, Any], labels: Labels | None, decode: bool, pixel_range: tuple[float, ...]) -> Files:
    files = Files(errors=[f"missing file {path}" for path in _paths(record) if not is_file(path)])
    if files.errors:
        return files
    try:
        if decode:
            files.size = read_image(record["file_name"], pixel_range).size
            files.values = read_values(header_source(record["file_name"]), pixel_range)
        elif labels in (BOXES, LABEL_MAPS):
            files.size = read_size(record["file_name"])
        if "sem_seg_file_name" in record:
            label = read_label(record["sem_seg_file_name"])
            pixels = np.bincount(label.ravel())
            files.label_size = label.shape[::-1]
            files.label_counts = Counter({int(i): int(pixels[i]) for i in np.flatnonzero(pixels)})
    except UnreadableImage as error:
        files.errors.append(f"unreadable image {error}")
    except UsageError as error:
        files.errors.append(str(error).removesuffix("."))
    return files


def _paths(record: dict[str, Any]) -> list[str]:
    """Return the files of a record on disk; for an image in an archive, the archive."""
    name = record["file_name"]
    archive, _ = split_member(name) or (name, "")
    return [archive, *([record["sem_seg_file_name"]] if "sem_seg_file_name" in record else [])]


def _size_errors(record: dict[str, Any], files: Files) -> list[str]:
    size = files.size
    if size is None:
        return []
    stated: tuple[int, ...] = (record.get("width", size[0]), record.get("height", size[1]))
    if files.label_size not in (None, size):
        stated = files.label_size
        error = f"{record['sem_seg_file_name']} is {_times(stated)} pixels, its image {_times(size)}"
    elif stated != size:
        error = f"{record['file_name']} is {_times(size)} pixels, its annotation says {_times(stated)}"
    else:
        return []
    remedy = ": if an EXIF orientation turns the image, annotate it upright or remove the orientation"
    return [error + (remedy if stated == size[::-1] else "")]


def _count(report: Report, image: int, counts: Counter, path: str) -> None:
    """Add the counts of an image to the report; add an error for a class that does not exist."""
    report.counts.update(counts)
    wrong = sorted(i for i in counts if not 0 <= i < len(report.classes))
    if wrong and report.classes:
        sentence = f"{path} has class {wrong[0]}, but the classes are 0 to {len(report.classes) - 1}"
        report.add_errors(image, [sentence])


def _check_objects(
    image: int, record: dict[str, Any], size: tuple[float, float] | None, masks: str | None, report: Report
) -> None:
    path = record["file_name"]
    if "annotations" not in record:
        report.add_errors(image, [f"{path} has no list of objects"])
        return
    size = size or (record.get("width", math.inf), record.get("height", math.inf))
    stated = record.get("width", size[0]), record.get("height", size[1])
    sound = []
    for annotation in record["annotations"]:
        error = box_error(annotation)
        if not error:
            sound.append(annotation)
            warning = box_warning(annotation, path, *size)
            report.warnings += [warning] if warning else []
        if masks != "" and not annotation.get("iscrowd", 0):
            error = error or mask_error(annotation, *stated)
            report.masks.setdefault(mask_format(annotation), []).append(image)
        report.crowds += bool(annotation.get("iscrowd", 0))
        report.add_errors(image, [f"an object of {path} {error}"] if error else [])
    _count(report, image, Counter(annotation["category_id"] for annotation in sound), path)


def _check_class_names(report: Report) -> None:
    if report.labels and not report.classes:
        report.warnings.append(f"the metadata of the data set list no {report.labels.classes}")
    alike: dict[str, list[str]] = {}
    for name in map(str, report.classes):
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    report.warnings += [f"classes {names} differ by case or spaces only" for names in alike.values() if len(names) > 1]


def _check_masks(dicts: Sequence[dict[str, Any]], masks: str | None, report: Report) -> None:
    """Check that objects have masks in the right format, if ``masks`` of :func:`inspect` requires masks."""
    without = dict.fromkeys(report.masks.get("", []))
    if masks or len(report.masks) > 1:
        for image in without:
            sentence = f"an object of {dicts[image]['file_name']} has no mask: add its segmentation"
            report.add_errors(image, [f"{sentence}, or set MODEL.MASK_ON False"])
    if masks == "polygon" and "bitmask" in report.masks:
        path = dicts[report.masks["bitmask"][0]]["file_name"]
        report.errors.append(f"an object of {path} has its mask as a bitmap: set INPUT.MASK_FORMAT bitmask")


def _check_variety(ignored: int, report: Report) -> None:
    """Check that label maps have more than one class: otherwise a model with a constant output would be perfect."""
    if len(report.counts) != 1:
        return
    (only,) = report.counts
    error = f"all pixels of all label maps have class {only}"
    if report.ignored:
        error = f"all pixels of all label maps are {only} or {ignored}, and {ignored} means that a pixel does not count"
    report.errors.append(f"{error}: write the classes as 0, 1, 2, ...")


def _times(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"
