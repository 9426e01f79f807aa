"""Random subsets of labelled images, nested for one seed."""

import json
from pathlib import Path

import numpy as np

from ...utils.errors import UsageError
from ...utils.files import write_json


def draw_images(image_ids, percent, seed):
    """Draw ``percent`` of the images, rounded to the nearest number, but at least one.

    Args:
        image_ids (Iterable[int]): ids of all images, in any order.
        percent (float): in (0, 100].
        seed (int): not negative.

    Returns:
        set[int]: ids of the drawn images, among them those of every smaller percentage of the same seed.
    """
    image_ids = sorted(image_ids)
    count = max(1, round(len(image_ids) * percent / 100))
    return {image_ids[i] for i in np.random.default_rng(seed).permutation(len(image_ids))[:count]}


def restrict(content, image_ids):
    """The part of a COCO annotation file's content that concerns some images; categories and the rest are kept."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [x for x in content["annotations"] if x["image_id"] in image_ids],
    }


def write_subsets(json_file, out_dir, percents, seed=0):
    """Write ``out_dir/<name>_<percent>pct.json`` for each of ``percents``.

    Returns:
        list[tuple]: (path, number of images, number of annotations) of each file.

    Raises:
        UsageError: for a percentage outside (0, 100], a negative seed or a file that is no COCO annotation file.
    """
    wrong = [percent for percent in percents if not 0 < percent <= 100]
    if wrong or seed < 0:
        what = f"percentage {wrong[0]:g}" if wrong else f"seed {seed}"
        raise UsageError(f"The {what} is out of range: percentages are above 0 and up to 100, seeds not negative.")
    content = _read(json_file)
    ids = [image["id"] for image in content["images"]]
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    written = []
    for percent in percents:
        subset = restrict(content, draw_images(ids, percent, seed))
        path = Path(out_dir, f"{Path(json_file).stem}_{percent:g}pct.json")
        write_json(path, subset)
        written.append((path, len(subset["images"]), len(subset["annotations"])))
    return written


def _read(json_file):
    try:
        content = json.loads(Path(json_file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{json_file} is not a readable annotation file ({error}).") from error
    if not isinstance(content, dict) or not content.get("images") or "annotations" not in content:
        raise UsageError(f"{json_file} is not a COCO annotation file: it has no images or no annotations.")
    return content
