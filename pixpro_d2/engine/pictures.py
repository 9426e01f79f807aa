"""Pictures that a training draws of itself: of its views and features, or of its predictions."""

import logging
import os

from detectron2.engine import HookBase
from detectron2.utils import comm
from torchvision.transforms.functional import pil_to_tensor

from ..data.io.reader import UnreadableImage
from ..data.pretrain.samples import load_samples
from ..utils.errors import UsageError
from ..utils.files import write_file
from ..utils.retry import retry
from ..visualization.comparisons import picture_attention, picture_features, picture_matches, with_pixels
from ..visualization.motion import picture_flow
from ..visualization.pairs import picture_pairs
from ..visualization.predictions import TASKS, LabelledImages, picture_predictions
from ..visualization.views import ViewSource, compare_views

logger = logging.getLogger(__name__)

COUNT = 3  # fixed images
FOLDER = "vis"  # below OUTPUT_DIR


class PeriodicPictures(HookBase):
    """Calls ``draw(done)`` after every so many iterations, ``done`` in all, and after the last one."""

    def __init__(self, period, folder):
        """
        Args:
            period (int): iterations from one set of pictures to the next; the last iteration has one too.
            folder (str): for the files ``NAME_0000199.png``, where 199 is the iteration, counted from 0.
        """
        self.period = period
        self.folder = folder

    def after_step(self):
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.draw(done)

    def write(self, name, picture):
        """Hand a picture (PIL.Image.Image, RGB) to the trainer's writers, and write its file."""
        self.trainer.storage.put_image(name, pil_to_tensor(picture))
        path = os.path.join(self.folder, f"{name}_{self.trainer.iter:07d}.png")
        try:
            os.makedirs(self.folder, exist_ok=True)
            write_file(path, lambda partial: picture.save(partial, format="PNG"))
        except OSError as error:  # no run ends for a picture
            logger.warning(f"The picture {path} could not be written: {error}.")


def spread(i, count):
    """The ``i``-th of ``count`` things to look at, far from those before it."""
    return int((i + 0.5) * 0.6180339887 % 1 * count)  # golden ratio


class PictureHook(PeriodicPictures):
    """Draws the same views of the same images every so often, as PNG files and for TensorBoard.

    Belongs into all processes, since losses between them are computed on the way; the main process draws. When the run
    starts or goes on it draws what training does not change: the pixel correspondences, and of videos the optical flow
    between the frames. The model, its norms' statistics and all random generators stay as they are; colours of features
    go on where they were, also in a resumed run.
    """

    def __init__(self, model, source, subjects, level, period, folder):
        """
        Args:
            model (PixPro): not wrapped in DDP.
            source (ViewSource): with the model's correspondence.
            subjects (list[Subject]): of the source, 1 or more.
            level (str): whose correspondences are drawn.
            period, folder: as for :class:`.PeriodicPictures`.
        """
        super().__init__(period, folder)
        self.model = model
        self.source = source
        self.subjects = subjects
        self.level = level
        self._colours = None  # of the last picture of features, which the next one keeps

    def before_train(self):
        if comm.is_main_process() and self.trainer.start_iter < self.trainer.max_iter:
            for i, subject in enumerate(self.subjects, start=1):
                try:
                    self._draw_data(i, self.source, subject.dataset_dict, subject.sample)
                except UnreadableImage as error:  # which the mapper could read a moment ago; no run ends for a picture
                    logger.warning(f"There will be no picture of {error}.")

    def draw(self, done):
        trained = compare_views(self.model, [subject.sample for subject in self.subjects])
        plain = compare_views(self.model, [subject.plain for subject in self.subjects])
        if comm.is_main_process() and with_pixels(plain):
            self._draw(trained, plain, f"After {done} of {self.trainer.max_iter} iterations")

    def _draw_data(self, i, *shown):
        self.write(f"pairs_{i}", picture_pairs(*shown, self.level))
        if self.source.n_frames > 1:
            self.write(f"flow_{i}", picture_flow(*shown))

    def _draw(self, trained, plain, note):
        views = [self.source.images(subject.plain)[0] for subject in self.subjects]
        picture, self._colours = picture_features(plain, views, note, self._colours)
        self.write("features", picture)
        for i, subject in enumerate(self.subjects):
            if self.model.ppm is not None:
                self.write(f"attention_{i + 1}", picture_attention(plain, i, self.model.ppm, views[i], note))
            pair, boxes = self.source.images(subject.sample), subject.sample["boxes"]
            self.write(f"matches_{i + 1}", picture_matches(trained, i, pair, boxes, note))

    def state_dict(self):
        return {} if self._colours is None else {"colours": self._colours}

    def load_state_dict(self, state_dict):
        self._colours = state_dict["colours"]


def build_picture_hook(cfg, model):
    """The hook of a pre-training with ``VIS_PERIOD`` above 0; None without a pixel loss, or readable images.

    All processes must call it.

    Args:
        cfg (CfgNode): of a pre-training.
        model (PixPro): not wrapped in DDP.
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


def fixed_subjects(source, images, count, seed, retry_seconds=0.0):
    """Subjects (list) of images that all processes can read, evenly spread; of one several times if there are fewer.

    All processes must call it with the same images, and have the same subjects then.

    Args:
        source (ViewSource): draws the views.
        images (Sequence[dict]): dataset dicts.
        count (int): of subjects.
        seed (int): of the views.
        retry_seconds (float): how long an image is tried again where not it, but its disk or mount fails.
    """
    subjects = []
    for i in range(4 * count):  # as some may be unreadable
        subject = None
        try:
            image = images[spread(i, len(images))]
            subject = retry(lambda image=image, i=i: source.subject(image, (seed, i)), retry_seconds)
        except UnreadableImage as error:
            logger.warning(f"There will be no pictures of {error}.")
        if all(comm.all_gather(subject is not None)):
            subjects.append(subject)
        if len(subjects) == count:
            break
    return subjects


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
