"""Picture of ground truth and detections, side by side."""

from detectron2.structures import BoxMode

from .canvas import GAP, LINE, MARGIN, Canvas, fit, palette, shorten
from .labels import draw_labels
from .legend import Legend

TOP = MARGIN + LINE  # of the images, below their titles


def draw_detections(image, ground_truth, predictions, class_names, min_score=0.5, side=300, legend=True):
    """A row of panels: ground truth, then each model's detections; a class has the same colour in all of them.

    Args:
        image (PIL.Image.Image): RGB.
        ground_truth (list[dict]): detectron2 annotations with bbox, bbox_mode and category_id.
        predictions (dict[str, Instances]): title to detectron2 detections, boxes in pixels of ``image``.
        class_names (list[str]): by category id.
        min_score (float): detections with a lower score, in [0, 1], are not shown.
        side (int): longer side of a panel in pixels.
        legend (bool): name the classes below; in a sheet of several rows, once is enough.

    Returns:
        PIL.Image.Image: (1 + number of predictions) * (side + MARGIN) + MARGIN pixels wide.
    """
    panels = [_truth_panel(ground_truth, class_names)]
    panels += [_prediction_panel(*item, class_names, min_score) for item in predictions.items()]
    width = len(panels) * (side + MARGIN) + MARGIN
    colours = palette(len(class_names))
    below = Legend(class_names, colours, width - 2 * MARGIN) if legend else None
    bottom = TOP + round(image.height * fit(image, side, side))
    canvas = Canvas(width, bottom + (GAP + below.height if below else 0) + MARGIN // 2)
    for i, (title, count, objects) in enumerate(panels):
        x = MARGIN + i * (side + MARGIN)
        canvas.text(x, MARGIN, shorten(title, side, tail=f": {count}"))
        _draw_panel(canvas, (x, TOP), image, objects, colours, side)
    if below:
        below.draw(canvas, MARGIN, bottom + GAP)
    return canvas.finish()


def _truth_panel(annotations, class_names):
    """Title, number of objects and these, (box XYXY, category, label), of the ground truth."""
    objects = [
        (BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS), x["category_id"], class_names[x["category_id"]])
        for x in annotations
    ]
    return "ground truth", len(objects), objects


def _prediction_panel(title, instances, class_names, min_score):
    """Likewise of the detections, the most certain first; their number in words."""
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


def _draw_panel(canvas, corner, image, objects, colours, side):
    scale = fit(image, side, side)
    x, y = corner
    canvas.paste(image, corner, scale)
    labels = [
        (label, (x + x0 * scale, y + y0 * scale, x + x1 * scale, y + y1 * scale), colours[category])
        for (x0, y0, x1, y1), category, label in objects
    ]
    for _, box, colour in reversed(labels):  # the most certain on top
        canvas.box(box, colour)
    draw_labels(canvas, labels, (x, y, x + image.width * scale, y + image.height * scale))
