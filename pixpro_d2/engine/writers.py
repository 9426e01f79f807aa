"""Write metrics to TensorBoard, to Weights & Biases, and to a disk that may be full."""

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, TensorboardXWriter, get_event_storage
from torch import Tensor
from tqdm import tqdm

from ..utils.files import read_json, write_json
from ..utils.signals import REQUEUE

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

RUN_FILE = "wandb.json"  # in OUTPUT_DIR; holds the id of the W&B run that a resumed run continues


class PatientWriter(EventWriter):
    """Write as another writer does; if the disk refuses, warn once and let the training continue.

    The file object of a JSONWriter keeps lines that it could not write, a few kilobytes of them, and writes them first
    when there is room again. TensorBoard's thread ends with its first error, so TensorBoard gets no further values.
    """

    def __init__(self, writer: EventWriter, folder: str) -> None:
        """
        Args:
            writer: writes to ``folder``.
            folder: named in the warning.
        """
        self._writer = writer
        self._folder = folder
        self._warned = False

    def write(self) -> None:
        self._try(self._writer.write)
        if isinstance(self._writer, TensorboardXWriter):
            get_event_storage().clear_images()  # as it does itself unless it fails

    def close(self) -> None:
        self._try(self._writer.close)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            if not self._warned:
                name, reason = type(self._writer).__name__, error.strerror or error
                lost = "until a restart" if isinstance(self._writer, TensorboardXWriter) else "until there is room"
                logger.warning(
                    f"{name} cannot write metrics to {self._folder} ({reason}). The run continues, and values are lost "
                    f"{lost}."
                )
            self._warned = True


class TensorboardWriter(TensorboardXWriter):
    """Write as detectron2's writer does; TensorBoard hides earlier values from the first iteration of this start on.

    A resumed run repeats the iterations since its checkpoint, and TensorBoard would show both values.
    """

    def __init__(self, folder: str, start: Callable[[], int]) -> None:
        """
        Args:
            folder: folder of the run.
            start: first iteration; called at the first write, because only a resumed run knows it.
        """
        self._folder = folder
        self._start: Callable[[], int] | None = start

    def write(self) -> None:
        if self._start is not None:
            super().__init__(self._folder, purge_step=self._start())
            self._start = None
        super().write()


class WandbWriter(EventWriter):
    """Write recorded scalars and pictures to a run of Weights & Biases, each at its iteration.

    Register this writer in the main process, before detectron2's TensorboardXWriter, which clears the pictures. The run
    starts with the first values, so a dry run of a training starts none. Values that the run already has from before an
    interruption are not written again.

    ``wandb.init(sync_tensorboard=True)`` would repeat these values, count the writings instead of the iterations, send
    the values of a killed run only when TensorBoard flushes them, and write each value several times if the folder of
    W&B lies in the folder of TensorBoard (seen in wandb 0.31).
    """

    def __init__(self, start: Callable[[], "wandb.Run"], image: Callable[[np.ndarray], Any]) -> None:
        """
        Args:
            start: starts or resumes the run; see :func:`start_run`.
            image: ``wandb.Image``, called with an array (H, W, 3) of uint8, RGB.
        """
        self._start = start
        self._image = image
        self._run: Any = None
        self._last_write = -1

    def write(self) -> None:
        if self._run is None:
            with tqdm.external_write_mode():  # W&B prints
                self._run = self._start()
            self._last_write = self._run.step - 1
        storage = get_event_storage()
        values: defaultdict[int, dict[str, Any]] = defaultdict(dict)  # iteration -> name -> value
        for name, (value, iteration) in storage.latest().items():
            values[iteration][name] = value
        for name, picture, iteration in storage._vis_data:
            if iteration > self._last_write:
                values[iteration][name] = self._image(channels_last(picture))
        for iteration in sorted(values):  # W&B drops values of an earlier step than the last step
            if iteration > self._last_write:
                self._run.log(values[iteration], step=iteration, commit=True)  # do not wait for the next step
                self._last_write = iteration

    def close(self) -> None:
        if self._run is not None:
            error = sys.exc_info()[1]  # an exception closes the writers on its way
            with tqdm.external_write_mode():
                if isinstance(error, SystemExit) and error.code == REQUEUE:
                    self._run.mark_preempting()  # W&B then shows the run as preempted, not as failed
                self._run.finish(exit_code=int(error is not None))


def channels_last(picture: Tensor | np.ndarray) -> np.ndarray:
    """Convert a picture of an EventStorage to the layout that W&B takes.

    Args:
        picture: (3, H, W), RGB; uint8, or floats in [0, 1].

    Returns:
        (H, W, 3) of uint8.
    """
    picture = torch.as_tensor(picture).permute(1, 2, 0).cpu()
    if picture.is_floating_point():
        picture = (picture * 255).round().clamp(0, 255)
    return np.ascontiguousarray(picture.numpy().astype(np.uint8))


def start_run(wandb: ModuleType, cfg: CfgNode, resumed: bool) -> "wandb.Run":
    """Start a run of Weights & Biases with the whole config, or resume the run of OUTPUT_DIR.

    If that fails, log a warning; the training continues.

    Args:
        wandb: the module of Weights & Biases.
        cfg: complete config, as :func:`.configuration.configure.setup` returns it.
        resumed: whether the training resumes from a checkpoint of OUTPUT_DIR.

    Returns:
        The run; a disabled run if none could be started.
    """
    path = os.path.join(cfg.OUTPUT_DIR, RUN_FILE)
    former = read_json(path) if resumed else None
    try:
        run = wandb.init(
            project=cfg.WANDB.PROJECT,
            name=cfg.WANDB.NAME or os.path.basename(os.path.abspath(cfg.OUTPUT_DIR)),
            dir=cfg.OUTPUT_DIR,
            id=former["id"] if former else None,
            resume="allow",
            config=yaml.safe_load(cfg.dump()),
            allow_val_change=True,  # a resumed run may have a new length
        )
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        logger.warning(f"Training continues without Weights & Biases, which could not be started: {reason}.")
        return wandb.init(mode="disabled")
    write_json(path, {"id": run.id})
    return run


def build_wandb_writers(cfg: CfgNode, is_resumed: Callable[[], bool]) -> list[WandbWriter]:
    """Return a list with the :class:`WandbWriter` of a training; an empty list if WANDB.ENABLED is off.

    Args:
        cfg: config of the training.
        is_resumed: whether the training is resumed; called when the run starts.
    """
    if not cfg.WANDB.ENABLED:
        return []
    import wandb  # an optional dependency

    return [WandbWriter(lambda: start_run(wandb, cfg, is_resumed()), wandb.Image)]
