"""Average precision of boxes on Pascal VOC annotations."""

import functools
import os
import tempfile
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator, pascal_voc_evaluation

from ..data.datasets.voc import annotation_file, image_ids, read_annotation
from ..utils.patching import replaced


class VOCEvaluator(PascalVOCDetectionEvaluator):
    """Compute AP, AP50 and AP75 as detectron2 does, from every annotation that can be trained on.

    detectron2 needs ``pose``, ``truncated``, ``difficult`` and whole-numbered boxes in each object. It also makes words
    and file names of the names of images and classes. This evaluator reads annotations as training does, and gives
    detectron2 the numbers of images and classes instead of their names. AP is the mean over the classes that have an
    object that counts, as in COCO's evaluation; detectron2 gives 0 or NaN for a class without an object.
    """

    def __init__(self, dataset_name: str) -> None:
        super().__init__(dataset_name)
        metadata = MetadataCatalog.get(dataset_name)
        self._root, self._images = metadata.dirname, image_ids(metadata.dirname, metadata.split)
        self._image_numbers = {image_id: i for i, image_id in enumerate(self._images)}
        self._class_numbers = {name: str(i) for i, name in enumerate(metadata.thing_classes)}
        self._class_names = list(self._class_numbers.values())
        self._anno_file_template = "{}"  # the argument of _objects

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        numbered = [{**image, "image_id": self._image_numbers[str(image["image_id"])]} for image in inputs]
        super().process(numbered, outputs)

    def evaluate(self) -> Any:
        parse = functools.lru_cache(maxsize=None)(self._objects)
        objects = (found for i in range(len(self._images)) for found in parse(str(i)))
        counted = {found["name"] for found in objects if not found["difficult"]}
        classes = [number for number in self._class_numbers.values() if number in counted] or self._class_names
        predictions = {classes.index(str(i)): x for i, x in self._predictions.items() if str(i) in classes}
        with (
            replaced(self, "_class_names", classes),
            replaced(self, "_predictions", predictions),
            tempfile.TemporaryDirectory(prefix="pascal_voc_eval_") as folder,
            replaced(pascal_voc_evaluation, "parse_rec", parse),
        ):
            self._image_set_path = os.path.join(folder, "images.txt")
            with open(self._image_set_path, "w") as file:
                file.writelines(f"{i}\n" for i in range(len(self._images)))
            return super().evaluate()

    def _objects(self, number: str) -> list[dict[str, Any]]:
        """Return the objects of an image as detectron2's ``parse_rec`` does; the box as in the XML file."""
        objects = read_annotation(annotation_file(self._root, self._images[int(number)]))[2]
        return [
            {
                "name": self._class_numbers.get(found.name),
                "difficult": found.difficult,
                "bbox": [found.box[0] + 1, found.box[1] + 1, *found.box[2:]],
            }
            for found in objects
        ]
