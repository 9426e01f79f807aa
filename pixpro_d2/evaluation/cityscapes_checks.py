"""Checks of the names, sizes and ids of label files at which cityscapesscripts ends the process, after training."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.datasets.cityscapes import IMAGE
from ..data.datasets.semseg import read_label
from ..data.inspection.records import THREADS
from ..utils.errors import UsageError

LABELS, INSTANCES = "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


def cityscapes_errors(image_dir: str, gt_dir: str) -> list[str]:
    """Return the errors of all label files in the folders of cities below ``gt_dir``; the evaluation reads them all."""
    images = sorted(Path(image_dir).glob(f"*/*{IMAGE}"))
    labels = sorted(Path(gt_dir).glob(f"*/*{LABELS}"))
    by_stem = {path.name.removesuffix(IMAGE): path for path in images}
    errors = _name_errors([path.name.removesuffix(IMAGE) for path in images])
    with ThreadPoolExecutor(THREADS) as pool:
        found: list[str] = sum(pool.map(lambda label: _label_errors(label, by_stem), labels), [])
        return errors + found


def _name_errors(stems: Iterable[str]) -> list[str]:
    """Check that the pattern CITY_SEQUENCE_FRAME*, by which cityscapesscripts finds predictions, fits one image."""
    errors, before = [], None
    for stem in sorted(stems):
        if stem.count("_") != 2 or any(sign in stem for sign in "*?["):
            errors.append(f"image {stem}{IMAGE} cannot be evaluated: name it CITY_SEQUENCE_FRAME{IMAGE}")
        elif before is not None and stem.startswith(before):
            errors.append(f"the evaluation mixes up the images {before}{IMAGE} and {stem}{IMAGE}: rename one of them")
        before = stem
    return errors


def _label_errors(label: Path, images: dict[str, Path]) -> list[str]:
    from cityscapesscripts.helpers.labels import id2label  # an extra

    stem = label.name.removesuffix(LABELS)
    if stem not in images:
        return [f"{label} has no image, but all labels are evaluated: remove the label"]
    try:
        ids = read_label(str(label))
        with Image.open(label.with_name(f"{stem}{INSTANCES}")) as instances:
            sizes = {ids.shape[::-1], instances.size}
        with Image.open(images[stem]) as image:
            sizes.add(image.size)
    except UsageError as error:
        return [str(error).removesuffix(".")]
    except OSError as error:
        return [f"a file of {stem} is not readable: {error}"]
    if len(sizes) > 1:
        return [f"{images[stem]}, {label} and its {INSTANCES} have different sizes"]
    unknown = [int(i) for i in np.flatnonzero(np.bincount(ids.ravel())) if int(i) not in id2label]
    return [f"{label} holds {unknown[0]}, which is no id of Cityscapes"] if unknown else []
