"""Picture of ground truth and detections, side by side."""

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

from .canvas import BACKGROUND, Canvas, palette


def draw_detections(image, ground_truth, predictions, class_names, min_score=0.5, side=300):
    """A row of panels: ground truth, then each model's detections.

    Args:
        image (PIL.Image.Image): RGB.
        ground_truth (list[dict]): detectron2 annotations with bbox, bbox_mode and category_id.
        predictions (dict[str, Instances]): title to detectron2 detections, boxes in pixels of ``image``.
        class_names (list[str]): by category id.
        min_score (float): weaker detections are not shown.
        side (int): of a panel in pixels.

    Returns:
        PIL.Image.Image
    """
    canvas = Canvas(panels=1 + len(predictions), side=side, caption_lines=1)
    colours = palette(len(class_names))
    truth = [
        (BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS), x["category_id"], None) for x in ground_truth
    ]
    _draw_panel(canvas, 0, f"ground truth: {len(truth)}", image, truth, colours)
    for panel, (title, instances) in enumerate(predictions.items(), start=1):
        kept = instances[instances.scores >= min_score]
        boxes = zip(kept.pred_boxes.tensor.tolist(), kept.pred_classes.tolist(), kept.scores.tolist())
        _draw_panel(canvas, panel, f"{title}: {len(kept)} above {min_score:g}", image, list(boxes), colours)
    x, y = canvas.origin(0)
    for name, colour in zip(class_names, colours):
        x = canvas.text(x, y + side + 10, name, colour) + 16
    return canvas.finish()


def _draw_panel(canvas, panel, title, image, boxes, colours):
    canvas.title(panel, title)
    left, top, scale = canvas.paste(panel, image)
    for box, category, score in boxes:
        x0, y0, x1, y1 = np.asarray(box) * scale + [left, top, left, top]
        canvas.box((x0, y0, x1, y1), colours[category])
        if score is not None:
            # Inside the box, so that no label leaves its panel.
            canvas.text(x0 + 4, y0 + 2, f"{score:.2f}", colours[category])


def contact_sheet(rows):
    """Pictures of equal width below each other, as one PIL image."""
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), BACKGROUND)
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return sheet
