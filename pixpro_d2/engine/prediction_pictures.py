"""Pictures of what a downstream model predicts, while it is trained."""

import logging
import os

from detectron2.utils import comm

from ..data.reader import UnreadableImage
from ..errors import UsageError
from ..visualization.predictions import TASKS, LabelledImages, picture_predictions
from .periodic_pictures import COUNT, FOLDER, PeriodicPictures, spread

logger = logging.getLogger(__name__)

MIN_SCORE = 0.3  # of the detections that are shown: a young model is never sure


class PredictionHook(PeriodicPictures):
    """Draws predictions for the same images every so often, as PNG files and for TensorBoard.

    Belongs into the main process. The model, its norms' statistics and all random generators stay as they are.
    detectron2 puts pictures of its own into TensorBoard every VIS_PERIOD, of proposals for a training image; these
    have other names, and no files.
    """

    def __init__(self, model, images, period, folder):
        """
        Args:
            model (nn.Module): not wrapped in DDP.
            images (list[Labelled]): to show.
            period, folder: as for :class:`.PeriodicPictures`.
        """
        super().__init__(period, folder)
        self.model = model
        self.images = images

    def draw(self, done):
        for i, labelled in enumerate(self.images, start=1):
            picture = picture_predictions(labelled, {f"iteration {done}": self.model}, MIN_SCORE)
            self.write(f"predictions_{i}", picture)


def build_prediction_hook(cfg, model, build_loader):
    """The hook of a downstream training with ``VIS_PERIOD`` above 0.

    Args:
        cfg (CfgNode): of a downstream task.
        model (nn.Module): not wrapped in DDP.
        build_loader (Callable): of a test loader from config and name.

    Returns:
        PredictionHook or None: shows a few images of the first data set of DATASETS.TEST, or without one of
        DATASETS.TRAIN; None in other processes than the main one, and, with a warning, where nothing can be shown.
    """
    if not comm.is_main_process():
        return None
    try:
        images = _fixed_images(cfg, build_loader)
    except UsageError as error:  # no run ends for a picture
        logger.warning(f"There will be no pictures of predictions: {error}")
        return None
    return PredictionHook(model, images, cfg.VIS_PERIOD, os.path.join(cfg.OUTPUT_DIR, FOLDER)) if images else None


def _fixed_images(cfg, build_loader):
    """At most COUNT readable images (list of Labelled), evenly spread."""
    if cfg.MODEL.META_ARCHITECTURE not in TASKS:
        raise UsageError(f"a {cfg.MODEL.META_ARCHITECTURE} has none.")
    data = LabelledImages(cfg, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[0], build_loader)
    images = []
    for number in dict.fromkeys(spread(i, len(data.records)) for i in range(4 * COUNT)):  # as some may be unreadable
        try:
            images.append(data.read(number))
        except UnreadableImage as error:
            logger.warning(f"There will be no pictures of {error}.")
        if len(images) == COUNT:
            break
    return images
