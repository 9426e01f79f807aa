"""Checks of a data set, whatever its task: files, sizes, labels and counts."""

import io
import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from detectron2.structures import BoxMode

from ..errors import UsageError
from .datasets.semseg import read_label
from .reader import ZIP_SEPARATOR, UnreadableImage, read_bytes, read_image
from .stored_values import StoredValues

# task -> (key of the classes' names in the metadata, config key of their number, what is counted)
TASKS = {
    "detection": ("thing_classes", "MODEL.ROI_HEADS.NUM_CLASSES (one-stage: MODEL.RETINANET.NUM_CLASSES)", "boxes"),
    "segmentation": ("stuff_classes", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "pixels"),
    "classification": ("classes", "MODEL.CLASSIFIER.NUM_CLASSES", "images"),
}
TOLERANCE = 1  # pixels that a box may reach out of its image: annotators' roundings do no harm


@dataclass
class Report:
    """What :func:`inspect` found."""

    task: str | None  # a key of TASKS, None for images without labels
    classes: list  # names
    images: int
    opened: int  # images that were decoded
    sizes: list = field(default_factory=list)  # (width, height) of the decoded images
    counts: Counter = field(default_factory=Counter)  # class number -> boxes, pixels or images
    problems: list = field(default_factory=list)  # sentences
    pixel_range: tuple = ()  # of the config
    values: StoredValues = field(default_factory=StoredValues)  # of the decoded images


def task_of(record):
    """Task that a dataset dict has labels for, a key of TASKS or None."""
    if "sem_seg_file_name" in record:
        return "segmentation"
    if "annotations" in record:
        return "detection"
    return "classification" if "category_id" in record else None


def inspect(dicts, metadata, sample=None, progress=iter, pixel_range=()):
    """Check a data set.

    Args:
        dicts (list[dict]): detectron2 dataset dicts.
        metadata (Metadata): of the data set.
        sample (int | None): number of images, evenly spaced, whose files are opened, all for None. Every file is
            checked to exist, and all boxes are checked.
        progress (Callable[[Iterable], Iterable]): shows the progress.
        pixel_range (tuple): INPUT.PIXEL_RANGE of the config that is to be used.

    Returns:
        Report: the pixels of a segmentation are counted in the opened files only.
    """
    task = task_of(dicts[0])
    classes = list(metadata.get(TASKS[task][0], None) or []) if task else []
    ignored = metadata.get("ignore_label", None)
    step = 1 if sample is None else max(1, -(-len(dicts) // sample))
    report = Report(task, classes, len(dicts), len(dicts[::step]), pixel_range=pixel_range)
    for i, record in enumerate(progress(dicts)):
        missing = [path for path in _files(record) if not os.path.isfile(path)]
        report.problems += [f"missing file {path}" for path in missing]
        size = None
        if i % step == 0 and not missing:
            size = _check_image(record, report)
            if size and task == "segmentation":
                _check_label(record, size, ignored, report)
        if task == "detection":
            _check_boxes(record, size, report)
        elif task == "classification":
            _count(report, Counter([record["category_id"]]), record["file_name"])
    report.problems += report.values.problems(pixel_range)
    return report


def _files(record):
    """Files of a record on disk; of a picture in an archive, the archive."""
    name = record["file_name"]
    image = name.split(ZIP_SEPARATOR)[0] + ".zip" if ZIP_SEPARATOR in name else name
    return [image, *([record["sem_seg_file_name"]] if "sem_seg_file_name" in record else [])]


def _check_image(record, report):
    """Size (width, height) of the decoded image, None if it cannot be."""
    try:
        size = read_image(record["file_name"], report.pixel_range).size
    except UnreadableImage as error:
        report.problems.append(f"unreadable image {error}")
        return None
    report.values.add(io.BytesIO(read_bytes(record["file_name"])))
    report.sizes.append(size)
    stated = record.get("width", size[0]), record.get("height", size[1])
    if stated != size:
        report.problems.append(f"{record['file_name']} is {_times(size)} pixels, its annotation says {_times(stated)}")
    return size


def _check_label(record, size, ignored, report):
    path = record["sem_seg_file_name"]
    try:
        label = read_label(path)
    except UsageError as error:
        report.problems.append(str(error))
        return
    if label.shape[::-1] != size:
        report.problems.append(f"{path} is {_times(label.shape[::-1])} pixels, its image {_times(size)}")
    ids, pixels = np.unique(label, return_counts=True)
    counts = {int(i): int(n) for i, n in zip(ids, pixels) if i != ignored}
    _count(report, Counter(counts), path)


def _check_boxes(record, size, report):
    width, height = size or (record.get("width", np.inf), record.get("height", np.inf))
    for annotation in record["annotations"]:
        x0, y0, x1, y1 = box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
        shown = f"box {[round(float(c), 1) for c in box]} of {record['file_name']}"
        if x1 <= x0 or y1 <= y0:
            report.problems.append(f"{shown} is empty")
        elif min(x0, y0) < -TOLERANCE or x1 > width + TOLERANCE or y1 > height + TOLERANCE:
            report.problems.append(f"{shown} reaches out of the image, which is {_times((width, height))}")
    _count(report, Counter(annotation["category_id"] for annotation in record["annotations"]), record["file_name"])


def _count(report, counts, path):
    """Add the counts of one file, and the classes that there are not to the problems."""
    wrong = sorted(i for i in counts if not 0 <= i < len(report.classes))
    if wrong:
        report.problems.append(f"{path} has class {wrong[0]}, but the classes are 0 to {len(report.classes) - 1}")
    report.counts += counts


def _times(size):
    return f"{size[0]} x {size[1]}"
