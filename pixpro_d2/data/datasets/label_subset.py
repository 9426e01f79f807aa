"""Draw random subsets of labelled images, which are nested for the same seed."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...utils.errors import UsageError
from ...utils.files import report_write_errors, write_json
from .coco import read_coco

ImageId = TypeVar("ImageId", int, str)


def draw_images(image_ids: Iterable[ImageId], percent: float, seed: int) -> set[ImageId]:
    """Draw ``percent`` of the images, rounded to the nearest number, but at least one image.

    Args:
        image_ids: ids of all images, in any order.
        percent: share of the images to draw, in (0, 100].
        seed: seed of the draw, >= 0.

    Returns:
        Ids of the drawn images. They include the images of every smaller percentage with the same seed.
    """
    ids = list(image_ids)
    is_mixed = len({isinstance(i, str) for i in ids}) > 1  # Python does not compare numbers with text
    ordered = sorted(ids, key=str if is_mixed else None)
    count = max(1, round(len(ordered) * percent / 100))
    return {ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))[:count]}


def restrict(content: dict[str, Any], image_ids: Collection[int]) -> dict[str, Any]:
    """Restrict the content of a COCO annotation file to some images; keep categories and all other entries."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "annotations": [x for x in content["annotations"] if x["image_id"] in image_ids],
    }


def write_subsets(
    json_file: str | Path, out_dir: str | Path, percents: Sequence[float], seed: int = 0, rest: bool = False
) -> list[tuple[Path, int, int]]:
    """Write ``out_dir/<name>_<percent>pct.json`` for each of ``percents``, with ``_seedN`` for another seed than 0.

    With ``rest``, write the other images of each subset to ``<name>_<percent>pct_rest.json``.

    Returns:
        (path, number of images, number of annotations) of each file.

    Raises:
        UsageError: if a percentage is outside (0, 100] or leaves no ``rest``, the seed is negative, the file is no COCO
            annotation file, or a file cannot be written.
    """
    wrong = [percent for percent in percents if not 0 < percent <= 100]
    if wrong or seed < 0:
        what = f"percentage {wrong[0]:g}" if wrong else f"seed {seed}"
        raise UsageError(f"The {what} is out of range: percentages are above 0 and up to 100, seeds not negative.")
    content = read_coco(str(json_file))
    ids = [image["id"] for image in content["images"]]
    subsets = [draw_images(ids, percent, seed) for percent in percents]
    whole = [percent for percent, drawn in zip(percents, subsets) if len(drawn) == len(ids)]
    if rest and whole:
        raise UsageError(f"{whole[0]:g} % of the {len(ids)} images of {json_file} leave no rest: take fewer per cent.")
    with report_write_errors(str(out_dir)):
        Path(out_dir).mkdir(parents=True, exist_ok=True)
    written = []
    for percent, drawn in zip(percents, subsets):
        parts = {"": drawn, "_rest": set(ids) - drawn} if rest else {"": drawn}
        for end, images in parts.items():
            subset = restrict(content, images)
            path = Path(out_dir, f"{Path(json_file).stem}_{percent:g}pct{f'_seed{seed}' if seed else ''}{end}.json")
            with report_write_errors(str(path)):
                write_json(path, subset)
            written.append((path, len(subset["images"]), len(subset["annotations"])))
    return written
