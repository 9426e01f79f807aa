"""Check the box and the mask of an annotated object."""

import math
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

BOX_TOLERANCE = 1  # pixels by which a box may exceed its image, because annotators round coordinates
MIN_COORDINATES = 6  # numbers of a polygon: three points


def box_error(annotation: dict[str, Any]) -> str:
    """Return the error in an object's box or class on which training or evaluation would fail, or ""."""
    missing = [key for key in ("bbox", "bbox_mode", "category_id") if annotation.get(key) is None]
    if missing:
        return f"has no {missing[0]}"
    box = annotation["bbox"]
    if len(box) != (5 if annotation["bbox_mode"] == BoxMode.XYWHA_ABS else 4):
        return f"has a bbox of {len(box)} numbers"
    return "" if are_finite(box) else "has a bbox that is not finite"


def box_warning(annotation: dict[str, Any], path: str, width: float, height: float) -> str:
    """Return a warning about the box of an object in image ``path``, or ""; :func:`box_error` must have passed."""
    x0, y0, x1, y1 = box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
    shown = f"box {[round(float(c), 1) for c in box]} of {path}"
    if x1 <= x0 or y1 <= y0:
        return f"{shown} is empty"
    if min(x0, y0) < -BOX_TOLERANCE or x1 > width + BOX_TOLERANCE or y1 > height + BOX_TOLERANCE:
        return f"{shown} reaches out of the image, which is {width} x {height}"
    return ""


def mask_format(annotation: dict[str, Any]) -> str:
    """Return the INPUT.MASK_FORMAT for an object's mask, polygon or bitmask; "" without a mask."""
    mask = annotation.get("segmentation")
    if mask is None or len(mask) == 0:
        return ""
    return "polygon" if isinstance(mask, list) else "bitmask"


def mask_error(annotation: dict[str, Any], width: float, height: float) -> str:
    """Return the error in an object's mask on which training or evaluation would fail, or ""."""
    mask = annotation.get("segmentation")
    if isinstance(mask, dict) and list(mask.get("size", ())) != [height, width]:
        return f"has a mask of size {mask.get('size')}, but the image's (height, width) is {[height, width]}"
    return "" if not mask or not isinstance(mask, list) else polygons_error(mask)


def polygons_error(polygons: Any) -> str:
    """Return the reason why ``polygons`` are no flat lists of coordinates with at least three points, or ""."""
    for polygon in polygons if isinstance(polygons, list) else [polygons]:
        if not isinstance(polygon, (list, np.ndarray)) or any(np.ndim(value) for value in polygon[:1]):
            return "has a segmentation that is no list of polygons [x, y, x, y, ...]: write flat numbers"
        if not are_finite(polygon):
            return "has a segmentation without finite coordinates"
    if polygons and not any(map(is_polygon, polygons)):
        return "has polygons of fewer than three points only: add points, or remove its segmentation"
    return ""


def is_polygon(values: list | np.ndarray) -> bool:
    """Return whether detectron2 trains on a polygon, instead of skipping it."""
    return len(values) >= MIN_COORDINATES and len(values) % 2 == 0


def are_finite(values: list | np.ndarray) -> bool:
    """Return whether all ``values`` are numbers, and neither infinite nor NaN."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False
