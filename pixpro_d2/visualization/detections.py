"""Picture of ground truth and detections, side by side."""

from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode, Instances
from PIL import Image

from .figures import (
    GAP,
    LINE,
    MARGIN,
    add_image,
    contact_sheet,
    fit,
    legend_block,
    new_figure,
    palette,
    shorten,
    to_image,
)
from .labels import draw_labels
from .marks import draw_box

TOP = MARGIN + LINE  # upper edge of the images, below their titles

Objects = list[tuple[Sequence[float], int, str]]  # box XYXY, category and label of each object


def draw_detections(
    image: Image.Image,
    ground_truth: list[dict[str, Any]],
    predictions: dict[str, Instances],
    class_names: Sequence[str],
    min_score: float = 0.5,
    side: int = 300,
    legend: bool = True,
) -> Image.Image:
    """Draw a row of panels: ground truth, then each model's detections; a class has the same colour in all panels.

    Args:
        image: RGB.
        ground_truth: detectron2 annotations with bbox, bbox_mode and category_id.
        predictions: title to detectron2 detections, boxes in pixels of ``image``.
        class_names: names by category id.
        min_score: detections with a lower score, in [0, 1], are not shown.
        side: longer side of a panel in pixels.
        legend: name the classes below; a sheet of several rows needs one legend only.

    Returns:
        A picture (1 + number of predictions) * (side + MARGIN) + MARGIN pixels wide.
    """
    panels = [_truth_panel(ground_truth, class_names)]
    panels += [_prediction_panel(*item, class_names, min_score) for item in predictions.items()]
    width, size = len(panels) * (side + MARGIN) + MARGIN, fit(image, side, side)
    colours = palette(len(class_names))
    figure = new_figure(width, TOP + size[1] + GAP)
    for i, (title, count, objects) in enumerate(panels):
        corner = (MARGIN + i * (side + MARGIN), MARGIN)
        axes = add_image(figure, image, corner, size, shorten(title, side, f": {count}"))
        labels = [(label, box, colours[category]) for box, category, label in objects]
        for _, box, colour in reversed(labels):  # the most certain on top
            draw_box(axes, box, colour)
        draw_labels(axes, labels)
    blocks = [to_image(figure)]
    if legend and class_names:
        blocks.append(legend_block(class_names, colours, width))
    return contact_sheet(blocks)


def _truth_panel(annotations: list[dict[str, Any]], class_names: Sequence[str]) -> tuple[str, str, Objects]:
    """Return title, number of objects in words, and objects of the ground truth."""
    objects = [
        (BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS), x["category_id"], class_names[x["category_id"]])
        for x in annotations
    ]
    return "ground truth", f"{len(objects)}", objects


def _prediction_panel(
    title: str, instances: Instances, class_names: Sequence[str], min_score: float
) -> tuple[str, str, Objects]:
    """Return title, number of objects in words, and objects of the detections, the most certain first."""
    kept = instances.to("cpu")
    kept = kept[kept.scores >= min_score]
    kept = kept[kept.scores.argsort(descending=True)]
    objects = [
        (box, category, f"{class_names[category]} {score:.2f}")
        for box, category, score in zip(
            kept.pred_boxes.tensor.tolist(), kept.pred_classes.tolist(), kept.scores.tolist()
        )
    ]
    return title, f"{len(objects)} of score {min_score:g} or more", objects
