"""Checks of one annotated object: its box and its mask."""

import math

import numpy as np
from detectron2.structures import BoxMode

TOLERANCE = 1  # pixels that a box may reach out of its image: annotators' roundings do no harm
MIN_COORDINATES = 6  # of a polygon: three points


def box_error(annotation: dict) -> str:
    """Return what training or evaluation would fail at in an object's box and class; "" for nothing."""
    missing = [key for key in ("bbox", "bbox_mode", "category_id") if annotation.get(key) is None]
    if missing:
        return f"has no {missing[0]}"
    box = annotation["bbox"]
    if len(box) != (5 if annotation["bbox_mode"] == BoxMode.XYWHA_ABS else 4):
        return f"has a bbox of {len(box)} numbers"
    return "" if are_finite(box) else "has a bbox that is not finite"


def box_warning(annotation: dict, path: str, width: float, height: float) -> str:
    """Return what is odd about the box of an object of image ``path``, given no :func:`box_error`; "" for nothing."""
    x0, y0, x1, y1 = box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    shown = f"box {[round(float(c), 1) for c in box]} of {path}"
    if x1 <= x0 or y1 <= y0:
        return f"{shown} is empty"
    if min(x0, y0) < -TOLERANCE or x1 > width + TOLERANCE or y1 > height + TOLERANCE:
        return f"{shown} reaches out of the image, which is {width} x {height}"
    return ""


def mask_format(annotation: dict) -> str:
    """Return the INPUT.MASK_FORMAT that can hold an object's mask, polygon or bitmask; "" for no mask."""
    mask = annotation.get("segmentation")
    if mask is None or len(mask) == 0:
        return ""
    return "polygon" if isinstance(mask, list) else "bitmask"


def mask_error(annotation: dict, width: float, height: float) -> str:
    """Return what training or evaluation would fail at in an object's mask; "" for nothing."""
    mask = annotation.get("segmentation")
    if isinstance(mask, dict) and list(mask.get("size", ())) != [height, width]:
        return f"has a mask of size {mask.get('size')}, but the image's (height, width) is {[height, width]}"
    return "" if not mask or not isinstance(mask, list) else polygons_error(mask)


def polygons_error(polygons: list) -> str:
    """Return why ``polygons`` are not flat lists of coordinates, three points or more; "" where they are."""
    for polygon in polygons if isinstance(polygons, list) else [polygons]:
        if not isinstance(polygon, (list, np.ndarray)) or any(np.ndim(value) for value in polygon[:1]):
            return "has a segmentation that is no list of polygons [x, y, x, y, ...]: write flat numbers"
        if not are_finite(polygon):
            return "has a segmentation without finite coordinates"
    if polygons and not any(map(is_polygon, polygons)):
        return "has polygons of fewer than three points only: add points, or remove its segmentation"
    return ""


def is_polygon(values: list) -> bool:
    """Return whether detectron2 trains on a polygon, or leaves it out."""
    return len(values) >= MIN_COORDINATES and len(values) % 2 == 0


def are_finite(values: list) -> bool:
    """Return whether all ``values`` are numbers other than infinity and NaN."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False
