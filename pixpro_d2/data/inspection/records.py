"""Checks of a data set, whatever its task: files, sizes, labels and counts."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from detectron2.data.catalog import Metadata

from ...utils.errors import UsageError
from ..datasets.object_checks import box_error, box_warning, mask_error, mask_format
from ..datasets.semseg import IGNORE_LABEL, read_label
from ..io.image_size import read_size
from ..io.reader import ZIP_SEPARATOR, UnreadableImage, header_source, read_image
from .stored_values import StoredValues

# task -> (key of the classes' names in the metadata, config key of their number, what is counted)
TASKS = {
    "detection": ("thing_classes", "MODEL.ROI_HEADS.NUM_CLASSES (one-stage: MODEL.RETINANET.NUM_CLASSES)", "boxes"),
    "segmentation": ("stuff_classes", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "pixels"),
    "classification": ("classes", "MODEL.CLASSIFIER.NUM_CLASSES", "images"),
}
THREADS = 8  # files that are read at a time


@dataclass
class Report:
    """What :func:`inspect` found."""

    task: str | None  # a key of TASKS, None for images without labels
    classes: list  # names
    images: int
    opened: int  # images that were decoded
    sizes: list = field(default_factory=list)  # (width, height) of the decoded images
    counts: Counter = field(default_factory=Counter)  # class number -> boxes, pixels or images
    ignored: int = 0  # pixels of label maps that do not count
    masks: dict = field(default_factory=dict)  # "polygon", "bitmask" or "" for no mask -> image of each such object
    errors: list = field(default_factory=list)  # sentences: a run would fail, or its results would be wrong
    warnings: list = field(default_factory=list)  # sentences: a run copes with it
    unsound: set = field(default_factory=set)  # indices of images with an error
    pixel_range: tuple = ()  # of the config
    values: StoredValues = field(default_factory=StoredValues)  # of the decoded images

    @property
    def problems(self) -> list:
        """Return all sentences, errors first."""
        return self.errors + self.warnings

    def add_errors(self, image: int, sentences: list) -> None:
        """Add errors of one image, given by its index."""
        self.errors += sentences
        self.unsound.update([image] if sentences else [])


@dataclass
class Files:
    """What the files of one image are like."""

    size: tuple | None = None  # (width, height) of the image
    label_size: tuple | None = None  # (width, height) of the label map
    label_counts: Counter = field(default_factory=Counter)  # id -> pixels
    errors: list = field(default_factory=list)


def task_of(record: dict) -> str | None:
    """Return the task that a dataset dict has labels for, a key of TASKS or None."""
    if "sem_seg_file_name" in record:
        return "segmentation"
    if "annotations" in record:
        return "detection"
    return "classification" if "category_id" in record else None


def inspect(
    dicts: Sequence[dict],
    metadata: Metadata,
    sample: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
    masks: str | None = None,
    pixel_range: tuple = (),
) -> Report:
    """Check a data set: that files exist, all annotations, all label maps and the sizes of all annotated images.

    Args:
        dicts: detectron2 dataset dicts.
        metadata: of the data set.
        sample: number of images, evenly spaced, that are decoded, where damage shows; None decodes all.
        progress: shows the progress.
        masks: INPUT.MASK_FORMAT where each object needs a mask, "" where masks do not matter. By default each object
            needs a mask if another object has one.
        pixel_range: INPUT.PIXEL_RANGE of the config that is to be used.
    """
    task, count = task_of(dicts[0]), len(dicts)
    classes = list(metadata.get(TASKS[task][0], None) or []) if task else []
    decoded = range(0, count if sample != 0 else 0, max(1, -(-count // sample)) if sample else 1)
    report = Report(task, classes, images=count, opened=len(decoded), pixel_range=pixel_range)
    ignored = metadata.get("ignore_label", None)
    ignored = IGNORE_LABEL if ignored is None else ignored
    with ThreadPoolExecutor(THREADS) as pool:
        # By index, because a future keeps its arguments: they would be all dicts at once.
        looks = pool.map(lambda i: _look_at(dicts[i], task, i in decoded, pixel_range), range(count))
        for i in progress(range(count)):
            record, files = dicts[i], next(looks)
            if files.size and i in decoded:
                report.sizes.append(files.size)
                report.values.add(header_source(record["file_name"]))
            report.add_errors(i, files.errors + _size_errors(record, files))
            if task == "segmentation":
                report.ignored += files.label_counts.pop(ignored, 0)
                _count(report, i, files.label_counts, record.get("sem_seg_file_name"))
            elif task == "detection":
                _check_objects(i, record, files.size, masks, report)
            elif task == "classification":
                _count(report, i, Counter([record["category_id"]]), record["file_name"])
    report.warnings += report.values.problems(pixel_range)
    if task == "detection" and not (report.counts or report.errors):
        report.warnings.append("no image has an annotated object: there is nothing to train on, and AP is NaN")
    _check_class_names(report)
    _check_masks(dicts, masks, report)
    if task == "segmentation":
        _check_variety(ignored, report)
    return report


def _look_at(record, task, decode, pixel_range):
    files = Files(errors=[f"missing file {path}" for path in _paths(record) if not os.path.isfile(path)])
    if files.errors:
        return files
    try:
        if decode:
            files.size = read_image(record["file_name"], pixel_range).size
        elif task in ("detection", "segmentation"):
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


def _paths(record):
    """Files of a record on disk; of a picture in an archive, the archive."""
    name = record["file_name"]
    image = name.split(ZIP_SEPARATOR)[0] + ".zip" if ZIP_SEPARATOR in name else name
    return [image, *([record["sem_seg_file_name"]] if "sem_seg_file_name" in record else [])]


def _size_errors(record, files):
    size = files.size
    if size is None:
        return []
    stated = record.get("width", size[0]), record.get("height", size[1])
    if files.label_size not in (None, size):
        stated = files.label_size
        error = f"{record['sem_seg_file_name']} is {_times(stated)} pixels, its image {_times(size)}"
    elif stated != size:
        error = f"{record['file_name']} is {_times(size)} pixels, its annotation says {_times(stated)}"
    else:
        return []
    remedy = ": if an EXIF orientation turns the image, annotate it upright or remove the orientation"
    return [error + (remedy if stated == size[::-1] else "")]


def _count(report, image, counts, path):
    """Add the counts of one image; a class that does not exist is an error."""
    report.counts.update(counts)
    wrong = sorted(i for i in counts if not 0 <= i < len(report.classes))
    if wrong and report.classes:
        sentence = f"{path} has class {wrong[0]}, but the classes are 0 to {len(report.classes) - 1}"
        report.add_errors(image, [sentence])


def _check_objects(image, record, size, masks, report):
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
        report.add_errors(image, [f"an object of {path} {error}"] if error else [])
    _count(report, image, Counter(annotation["category_id"] for annotation in sound), path)


def _check_class_names(report):
    if report.task and not report.classes:
        report.warnings.append(f"the metadata of the data set list no {TASKS[report.task][0]}")
    alike = {}
    for name in map(str, report.classes):
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    report.warnings += [f"classes {names} differ by case or spaces only" for names in alike.values() if len(names) > 1]


def _check_masks(dicts, masks, report):
    """Check that objects have masks, and of the format, where ``masks`` of :func:`inspect` says that they need them."""
    without = dict.fromkeys(report.masks.get("", []))
    if masks or len(report.masks) > 1:
        for image in without:
            sentence = f"an object of {dicts[image]['file_name']} has no mask: add its segmentation"
            report.add_errors(image, [f"{sentence}, or set MODEL.MASK_ON False"])
    if masks == "polygon" and "bitmask" in report.masks:
        path = dicts[report.masks["bitmask"][0]]["file_name"]
        report.errors.append(f"an object of {path} has its mask as a bitmap: set INPUT.MASK_FORMAT bitmask")


def _check_variety(ignored, report):
    """Check that label maps have more than one class: a model that always says the same would be perfect."""
    if len(report.counts) != 1:
        return
    (only,) = report.counts
    error = f"all pixels of all label maps have class {only}"
    if report.ignored:
        error = f"all pixels of all label maps are {only} or {ignored}, and {ignored} means that a pixel does not count"
    report.errors.append(f"{error}: write the classes as 0, 1, 2, ...")


def _times(size):
    return f"{size[0]} x {size[1]}"
