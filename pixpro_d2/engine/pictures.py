"""Draw pictures during a training: views and features of a pre-training, or predictions of a downstream task."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from ..data.pretrain.samples import load_samples
from ..modeling.pretrain.methods import SlotConMethod
from ..utils.errors import UnreadableImage, UsageError
from ..utils.files import write_file
from ..utils.retry import Patience
from ..utils.sampling import scattered
from ..visualization.comparisons import picture_attention, picture_features, picture_matches, with_pixels
from ..visualization.motion import picture_flow
from ..visualization.pairs import picture_pairs
from ..visualization.predictions import PICTURED, Labelled, LabelledImages, picture_predictions
from ..visualization.slots import picture_slots
from ..visualization.views import Subject, ViewSource, compare_views

if TYPE_CHECKING:
    from ..modeling.pretrain.pixpro import PixPro
    from ..modeling.pretrain.two_branch import LevelComparison

logger = logging.getLogger(__name__)

COUNT = 3  # fixed images
FOLDER = "vis"  # below OUTPUT_DIR


class PeriodicPictures(HookBase):
    """Call ``draw(done)`` after every ``period`` iterations and after the last iteration."""

    def __init__(self, period: int, folder: str) -> None:
        """
        Args:
            period: iterations from one set of pictures to the next; the last iteration also has a set.
            folder: folder of the files ``NAME_0000199.png``, where 199 is the iteration, counted from 0.
        """
        self.period = period
        self.folder = folder

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.draw(done)

    def write(self, name: str, picture: Image.Image) -> None:
        """Pass a picture (RGB) to the trainer's writers, and write its file."""
        self.trainer.storage.put_image(name, pil_to_tensor(picture))
        path = os.path.join(self.folder, f"{name}_{self.trainer.iter:07d}.png")
        try:
            os.makedirs(self.folder, exist_ok=True)
            write_file(path, lambda partial: picture.save(partial, format="PNG"))
        except OSError as error:  # a picture must not end a run
            logger.warning(f"The picture {path} could not be written: {error}.")


def _far_apart(i: int, count: int) -> int:
    """Return the index of the ``i``-th of ``count`` items to show, far from the items before it."""
    return int(scattered(i + 0.5) * count)


class PictureHook(PeriodicPictures):
    """Draw the same views of the same images regularly, as PNG files and for TensorBoard.

    Register this hook in all processes, because some methods compare features of all processes; the main process draws.
    When the run starts or resumes, the hook draws the pixel correspondences, and the optical flow between frames of
    videos. The model, its norms' statistics and all random generators stay as they are. Features keep their colours
    from one picture to the next, also in a resumed run.
    """

    def __init__(
        self,
        model: "PixPro",
        source: ViewSource,
        subjects: Sequence[Subject],
        level: str,
        period: int,
        folder: str,
    ) -> None:
        """
        Args:
            model: not wrapped in DDP.
            source: source of views, with the model's correspondence.
            subjects: one or more subjects of the source.
            level: level whose correspondences are drawn.
            period, folder: as for :class:`.PeriodicPictures`.
        """
        super().__init__(period, folder)
        self.model = model
        self.source = source
        self.subjects = subjects
        self.level = level
        self._colours: Any = None  # colours of the last picture of features, for the next picture

    def before_train(self) -> None:
        if comm.is_main_process() and self.trainer.start_iter < self.trainer.max_iter:
            for i, subject in enumerate(self.subjects, start=1):
                try:
                    self._draw_data(i, subject)
                except UnreadableImage as error:  # the mapper could read it before; a picture must not end a run
                    logger.warning(f"There will be no picture of {error}.")

    def draw(self, done: int) -> None:
        trained = compare_views(self.model, [subject.sample for subject in self.subjects])
        plain = compare_views(self.model, [subject.plain for subject in self.subjects])
        if comm.is_main_process() and with_pixels(plain):
            self._draw(trained, plain, f"After {done} of {self.trainer.max_iter} iterations")

    def _draw_data(self, i: int, subject: Subject) -> None:
        shown = self.source, subject.dataset_dict, subject.sample
        stride = self.model.backbone.output_shape()[self.level].stride
        self.write(f"pairs_{i}", picture_pairs(*shown, stride))
        if self.source.n_frames > 1:
            self.write(f"flow_{i}", picture_flow(*shown))

    def _draw(
        self,
        trained: Mapping[str, "LevelComparison"],
        plain: Mapping[str, "LevelComparison"],
        note: str,
    ) -> None:
        views = [self.source.images(subject.plain)[0] for subject in self.subjects]
        picture, self._colours = picture_features(plain, views, note, self._colours)
        self.write("features", picture)
        if isinstance(self.model.method, SlotConMethod):
            self.write("slots", picture_slots(plain, self.model.method, views, note))
        for i, subject in enumerate(self.subjects):
            if self.model.ppm is not None:
                self.write(f"attention_{i + 1}", picture_attention(plain, i, self.model.ppm, views[i], note))
            pair, boxes = self.source.images(subject.sample), subject.sample["boxes"]
            self.write(f"matches_{i + 1}", picture_matches(trained, i, pair, boxes, note))

    def state_dict(self) -> dict[str, Any]:
        return {} if self._colours is None else {"colours": self._colours}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._colours = state_dict["colours"]


def build_picture_hook(cfg: CfgNode, model: "PixPro") -> PictureHook | None:
    """Return the hook of a pre-training with ``VIS_PERIOD`` above 0; None without a pixel loss or readable images.

    All processes must call this function.

    Args:
        cfg: config of a pre-training.
        model: not wrapped in DDP.
    """
    levels = cfg.MODEL.PIXPRO.IN_FEATURES
    if not levels:
        logger.warning("VIS_PERIOD has no pictures of a pre-training without a pixel loss.")
        return None
    source = ViewSource(cfg, correspondence=model.correspondence)
    subjects = fixed_subjects(source, load_samples(cfg), COUNT, max(cfg.SEED, 0), cfg.DATALOADER.RETRY_SECONDS)
    if not subjects:
        return None
    return PictureHook(model, source, subjects, levels[0], cfg.VIS_PERIOD, os.path.join(cfg.OUTPUT_DIR, FOLDER))


def fixed_subjects(
    source: ViewSource, images: Sequence[dict], count: int, seed: int, retry_seconds: float = 0.0
) -> list[Subject]:
    """Return subjects of evenly spread images that all processes can read; repeat an image if there are too few.

    All processes must call this function with the same images. They then get the same subjects.

    Args:
        source: draws the views.
        images: dataset dicts.
        count: number of subjects.
        seed: seed of the views.
        retry_seconds: how long to retry an image, see :class:`pixpro_d2.utils.retry.Patience`.
    """
    subjects: list[Subject] = []
    patience = Patience(retry_seconds)
    for i in range(4 * count):  # some images may be unreadable
        subject = None
        try:
            image = images[_far_apart(i, len(images))]
            subject = patience.read(partial(source.subject, image, (seed, i)))
        except UnreadableImage as error:
            logger.warning(f"There will be no pictures of {error}.")
        is_readable = all(comm.all_gather(subject is not None))
        if subject is not None and is_readable:
            subjects.append(subject)
        if len(subjects) == count:
            break
    return subjects


MIN_SCORE = 0.3  # least score of a shown detection; scores are low early in a training


class PredictionHook(PeriodicPictures):
    """Draw predictions for the same images regularly, as PNG files and for TensorBoard.

    Register this hook in the main process. The model, its norms' statistics and all random generators stay as they are.
    Every VIS_PERIOD, detectron2 also adds pictures of proposals to TensorBoard; these pictures have other names, and no
    files.
    """

    def __init__(self, model: nn.Module, images: Sequence[Labelled], period: int, folder: str) -> None:
        """
        Args:
            model: not wrapped in DDP.
            images: labelled images to show.
            period, folder: as for :class:`.PeriodicPictures`.
        """
        super().__init__(period, folder)
        self.model = model
        self.images = images

    def draw(self, done: int) -> None:
        for i, labelled in enumerate(self.images, start=1):
            picture = picture_predictions(labelled, {f"iteration {done}": self.model}, MIN_SCORE)
            self.write(f"predictions_{i}", picture)


def build_prediction_hook(
    cfg: CfgNode, model: nn.Module, build_loader: Callable[[CfgNode, str], Any]
) -> PredictionHook | None:
    """Return the hook of a downstream training with ``VIS_PERIOD`` above 0.

    Args:
        cfg: config of a downstream task.
        model: not wrapped in DDP.
        build_loader: builds a test loader from the config and the name of a data set.

    Returns:
        A hook that shows a few images of the first data set of DATASETS.TEST, or of DATASETS.TRAIN without a test set.
        None outside the main process; also None, with a warning, if no image can be shown.
    """
    if not comm.is_main_process():
        return None
    try:
        images = _fixed_images(cfg, build_loader)
    except UsageError as error:  # a picture must not end a run
        logger.warning(f"There will be no pictures of predictions: {error}")
        return None
    return PredictionHook(model, images, cfg.VIS_PERIOD, os.path.join(cfg.OUTPUT_DIR, FOLDER)) if images else None


def _fixed_images(cfg: CfgNode, build_loader: Callable[[CfgNode, str], Any]) -> list[Labelled]:
    """Return at most COUNT readable images, evenly spread."""
    if cfg.MODEL.META_ARCHITECTURE not in PICTURED:
        raise UsageError(f"a {cfg.MODEL.META_ARCHITECTURE} has none.")
    data = LabelledImages(cfg, (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[0], build_loader)
    images: list[Labelled] = []
    for number in dict.fromkeys(_far_apart(i, len(data.records)) for i in range(4 * COUNT)):  # some may be unreadable
        try:
            images.append(data.read(number))
        except UnreadableImage as error:
            logger.warning(f"There will be no pictures of {error}.")
        if len(images) == COUNT:
            break
    return images
