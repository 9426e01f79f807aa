"""Predictions of downstream models on the images of a data set, beside the ground truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image
from torch import nn

from ..data.datasets.catalog import ensure_registered, load_dicts
from ..data.datasets.semseg import IGNORE_LABEL, read_label
from ..data.downstream.tasks import BOXES, CATEGORIES, LABEL_MAPS, TASKS, Labels
from ..data.io.reader import read_image
from ..utils.errors import UnreadableImage, UsageError
from ..utils.modules import eval_mode
from .detections import draw_detections
from .figures import MARGIN, WIDTH
from .segmentation import draw_segmentation

# meta-architectures whose predictions can be drawn
PICTURED = [name for name, (labels, _) in TASKS.items() if labels is not CATEGORIES]
SIDE = 380  # maximum of the longer side of an image, pixels


@dataclass(frozen=True)
class Labelled:
    """Hold an image with its ground truth.

    * labels: kind of its labels;
    * metadata: metadata of its data set;
    * image: RGB;
    * truth: detectron2 annotations, or class ids (height, width);
    * sample: the image as a model in eval mode takes it.
    """

    labels: Labels
    metadata: Metadata
    image: Image.Image
    truth: Any
    sample: dict[str, Any]


class LabelledImages:
    """Read the images of a data set with the ground truth of one task; ``records`` are the data set's dicts."""

    def __init__(self, cfg: CfgNode, name: str, build_loader: Callable[[CfgNode, str], Any]) -> None:
        """
        Args:
            cfg: with a meta-architecture of PICTURED.
            name: name of the data set.
            build_loader: builds a test loader from config and name.

        Raises:
            UsageError: if the data set is unknown, or has no labels of the task.
        """
        ensure_registered([name])
        self._labels, _ = TASKS[cfg.MODEL.META_ARCHITECTURE]
        self._pixel_range = tuple(cfg.INPUT.PIXEL_RANGE)
        self.records = load_dicts(name)
        if not self.records or self._labels.key not in self.records[0]:
            raise UsageError(
                f"Data set '{name}' has no labels of {self._labels.task}, which this config's predictions stand beside."
            )
        self._inputs = build_loader(cfg, name).dataset  # in the order of the records
        self._metadata = MetadataCatalog.get(name)

    def read(self, number: int) -> Labelled:
        """Read the image ``number``.

        Raises:
            UnreadableImage: if the image cannot be read, or has another size than its data set says.
            UsageError: if the labels cannot be read, or have another size.
        """
        record = self.records[number]
        # Read the image before the mapper does, because a mapper raises errors of many kinds.
        image = read_image(record["file_name"], self._pixel_range)
        truth = record[self._labels.key]
        if self._labels is LABEL_MAPS:
            truth = read_label(truth, image.size)
        try:
            sample = self._inputs[number]
        except SizeMismatchError as error:
            raise UnreadableImage(f"{record['file_name']}, whose data set says another size: {error}") from error
        return Labelled(self._labels, self._metadata, image, truth, sample)


def picture_predictions(labelled: Labelled, models: dict[str, nn.Module], min_score: float) -> Image.Image:
    """Draw one image with its ground truth and the predictions of models, which do not change.

    Args:
        labelled: the image.
        models: 1 or more models of the image's task, by title.
        min_score: detections with a lower score, in [0, 1], are not shown.

    Returns:
        A picture at most 1200 pixels wide, unless there are very many models.
    """
    image, truth, metadata = labelled.image, labelled.truth, labelled.metadata
    outputs = {title: _predict(model, labelled.sample) for title, model in models.items()}
    if labelled.labels is BOXES:
        found = {title: output["instances"] for title, output in outputs.items()}
        return draw_detections(image, truth, found, metadata.thing_classes, min_score, _side(1 + len(found)))
    maps = {title: output["sem_seg"].argmax(dim=0).cpu().numpy() for title, output in outputs.items()}
    ignored = metadata.get("ignore_label", IGNORE_LABEL)
    return draw_segmentation(image, truth, metadata.stuff_classes, maps, ignored, _side(2 + len(maps)))


@torch.no_grad()
def _predict(model: nn.Module, sample: dict[str, Any]) -> dict[str, Any]:
    with eval_mode(model):
        return model([sample])[0]


def _side(panels: int) -> int:
    """Return the longer side of an image in a row of ``panels``, in pixels."""
    return min(SIDE, (WIDTH - MARGIN) // panels - MARGIN)
