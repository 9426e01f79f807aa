"""Writers of metrics: Weights & Biases, and a progress line on the terminal."""

import logging
import os
import sys
from collections import defaultdict

import numpy as np
import torch
import yaml
from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm

from ..utils.files import read_json, write_json

logger = logging.getLogger(__name__)

RUN_FILE = "wandb.json"  # in OUTPUT_DIR: which run of W&B a resumed one goes on with


class WandbWriter(EventWriter):
    """Writes scalars, as they were recorded, and pictures to a run of Weights & Biases, each at its iteration.

    Belongs into the main process, before detectron2's TensorboardXWriter, which clears the pictures. The run starts
    with the first values: a training that is only tried out has none. Values that the run has already, from before an
    interruption, are not written again.
    """

    def __init__(self, start, image):
        """
        Args:
            start (Callable[[], wandb.Run]): starts the run, or goes on with it; see :func:`start_run`.
            image (Callable[[np.ndarray], Any]): ``wandb.Image``; gets an array (H, W, 3) of uint8, RGB.
        """
        self._start = start
        self._image = image
        self._run = None
        self._last_write = -1

    def write(self):
        if self._run is None:
            with tqdm.external_write_mode():  # W&B prints
                self._run = self._start()
            self._last_write = self._run.step - 1
        storage = get_event_storage()
        values = defaultdict(dict)  # iteration -> name -> value
        for name, (value, iteration) in storage.latest().items():
            values[iteration][name] = value
        for name, picture, iteration in storage._vis_data:
            if iteration > self._last_write:
                values[iteration][name] = self._image(channels_last(picture))
        for iteration in sorted(values):  # W&B drops what comes at an earlier step than the last
            if iteration > self._last_write:
                self._run.log(values[iteration], step=iteration, commit=True)  # not only with the next
                self._last_write = iteration

    def close(self):
        if self._run is not None:
            failed = sys.exc_info()[0] is not None  # writers are closed while the exception passes
            with tqdm.external_write_mode():
                self._run.finish(exit_code=int(failed))


def channels_last(picture):
    """A picture as an EventStorage takes it, as W&B does.

    Args:
        picture (Tensor or ndarray): (3, H, W), RGB; uint8, or floats in [0, 1].

    Returns:
        ndarray: (H, W, 3) of uint8.
    """
    picture = torch.as_tensor(picture).permute(1, 2, 0).cpu()
    if picture.is_floating_point():
        picture = (picture * 255).round().clamp(0, 255)
    return np.ascontiguousarray(picture.numpy().astype(np.uint8))


def start_run(wandb, cfg, resumed):
    """Start a run of Weights & Biases with the whole config, or go on with that of OUTPUT_DIR.

    A failure costs a warning, not the training.

    Args:
        wandb (module): Weights & Biases.
        cfg (CfgNode): complete, as :func:`.configure.setup` returns it.
        resumed (bool): whether training goes on from a checkpoint of OUTPUT_DIR.

    Returns:
        wandb.Run: one that does nothing if none could be started.
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
            allow_val_change=True,  # a resumed run may be longer than it was
        )
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        logger.warning(f"Training goes on without Weights & Biases, which could not be started: {reason}.")
        return wandb.init(mode="disabled")
    write_json(path, {"id": run.id})
    return run


def build_wandb_writers(cfg, is_resumed):
    """List of the :class:`WandbWriter` of a training; empty where WANDB.ENABLED is off.

    Args:
        cfg (CfgNode): of the training.
        is_resumed (Callable[[], bool]): asked when the run starts.
    """
    if not cfg.WANDB.ENABLED:
        return []
    import wandb  # an extra

    return [WandbWriter(lambda: start_run(wandb, cfg, is_resumed()), wandb.Image)]
