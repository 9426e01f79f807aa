"""Tiny annotated data sets, written file by file, so that a test can leave out or spoil any part."""

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

EXIF_ORIENTATION, TURNED_RIGHT = 0x0112, 6
SIZE = 48, 40  # width and height of the images
WHOLE = "<pose>Left</pose><truncated>0</truncated><difficult>0</difficult>"  # what detectron2's VOC evaluator needs


def write_image(path, size=SIZE, orientation=None):
    """Write a grey image of ``size`` (width, height) as stored, with an EXIF orientation if one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", size, (90, 120, 150)).save(path, exif=exif)


def voc_object(name, box, fields=WHOLE):
    """XML of an object; ``box`` has VOC's (xmin, ymin, xmax, ymax), of any type."""
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{fields}<bndbox>{corners}</bndbox></object>"


def write_voc(root, images, lines=None):
    """Write a VOC folder with a split ``test``, and return the name of the data set.

    Args:
        root (Path): the folder.
        images (dict[str, list[str]]): XML of the objects of each image.
        lines (list[str] | None): of the split file; by default the names of the images.
    """
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
    for image_id, objects in images.items():
        write_image(root / "JPEGImages" / f"{image_id}.jpg")
        path = root / "Annotations" / f"{image_id}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/test.txt").write_text("".join(f"{line}\n" for line in lines or images))
    return f"voc:{root}@test"


def coco_object(number, box, **keys):
    """A complete COCO annotation of image 1, with the rectangle ``box`` (x, y, width, height) as its mask.

    A key whose value is None is left out.
    """
    x, y, width, height = box
    whole = {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "bbox": box,
        "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
        "area": width * height,
        "iscrowd": 0,
    }
    return {key: value for key, value in {**whole, **keys}.items() if value is not None}


def write_coco(folder, objects, images=1, orientation=None):
    """Write a COCO file of ``objects`` and ``images`` images, and return the name of the data set."""
    rows = [{"id": i, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]} for i in range(1, images + 1)]
    for row in rows:
        write_image(folder / row["file_name"], orientation=orientation)
    content = {"images": rows, "annotations": objects, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return f"coco:{folder}/a.json@{folder}"


def write_label(path, values):
    """Write a label map of vertical stripes of ``values``, of the images' size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.repeat(np.array(values, dtype=np.uint8), -(-SIZE[0] // len(values)))[: SIZE[0]]
    Image.fromarray(np.tile(stripes, (SIZE[1], 1))).save(path)


def write_sem_seg(folder, values, images=2):
    """Write images with label maps of ``values``, and return the name of the data set."""
    for i in range(images):
        write_image(folder / f"images/{i}.jpg")
        write_label(folder / f"labels/{i}.png", values)
    return f"semseg:{folder}/images@{folder}/labels"


def write_cityscapes(root, stems, city="a"):
    """Write the files of a split ``val`` that the evaluation looks at, for the images ``stems``; return the name."""
    for stem in stems:
        write_image(root / f"leftImg8bit/val/{city}/{stem}_leftImg8bit.png")
        labels = root / f"gtFine/val/{city}"
        for kind in ("labelIds", "labelTrainIds", "instanceIds"):
            write_label(labels / f"{stem}_gtFine_{kind}.png", (7, 8) if kind == "labelIds" else (0, 1))
        objects = {"imgWidth": SIZE[0], "imgHeight": SIZE[1], "objects": []}
        (labels / f"{stem}_gtFine_polygons.json").write_text(json.dumps(objects))
    return f"cityscapes:{root}@val"


def detections(boxes, classes, scores, masks=False):
    """Predictions of a detector for one image; ``boxes`` as (x0, y0, x1, y1), the masks their rectangles."""
    found = Instances(SIZE[::-1])
    found.pred_boxes = Boxes(torch.as_tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4)))
    found.pred_classes, found.scores = torch.as_tensor(classes), torch.as_tensor(scores)
    if masks:
        found.pred_masks = torch.zeros(len(boxes), SIZE[1], SIZE[0], dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(found.pred_masks, boxes):
            mask[round(y0) : round(y1), round(x0) : round(x1)] = True
    return {"instances": found}


def replace_in(path: Path, old, new):
    """Replace text that must be there in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
