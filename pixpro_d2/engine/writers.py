"""Writers of metrics: Weights & Biases, and a progress line on the terminal."""

import contextlib
import logging
import os
import sys
from collections import defaultdict

import numpy as np
import torch
import yaml
from detectron2.engine import HookBase
from detectron2.utils import comm, events
from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

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


LOGGERS = ("fvcore", "detectron2", "pixpro_d2")  # those that are set up to print to stdout
FORMAT = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
TIMES = 20  # iterations that the speed is the mean of


class _Line(tqdm):
    """Refreshed by training alone, not by a thread: data workers are forked, which threads put at risk."""

    monitor_interval = 0


class ProgressHook(HookBase):
    """Moves the line after every step; the last of the hooks, so that a step counts with all that belongs to it."""

    def __init__(self, line, batch_size):
        """
        Args:
            line (tqdm): of iterations.
            batch_size (int): images of all processes in an iteration.
        """
        self.line = line
        self.batch_size = batch_size

    def after_step(self):
        self.line.set_postfix_str(describe(self.trainer.storage, self.batch_size), refresh=False)
        self.line.update()


def describe(storage, batch_size):
    """Loss, learning rate and speed that were recorded last, as far as they are there.

    Args:
        storage (EventStorage): of the training.
        batch_size (int): images of all processes in an iteration.

    Returns:
        str: as ``loss -1.234, lr 0.05000, 18.6 images/s``.
    """
    latest = storage.latest()
    labels = {"total_loss": "loss", "lr": "lr"}
    parts = [f"{label} {latest[name][0]:#.4g}" for name, label in labels.items() if name in latest]
    if "time" in latest:
        parts.append(f"{batch_size / storage.history('time').avg(TIMES):.1f} images/s")
    return ", ".join(parts)


@contextlib.contextmanager
def progress_line(trainer, batch_size):
    """Context of a training in which the main process shows one line at the foot of the terminal.

    What is logged appears above it, except for the metrics that are printed every 20 iterations, which only log.txt
    gets. Where stdout is no terminal nothing changes. The time that is left follows from that of all iterations so
    far, with evaluations and checkpoints.

    Args:
        trainer (TrainerBase): about to train, with ``start_iter`` and ``max_iter``.
        batch_size (int): images of all processes in an iteration.
    """
    if not (comm.is_main_process() and sys.stdout.isatty()):
        yield
        return
    line = _Line(
        initial=trainer.start_iter,
        total=trainer.max_iter,
        file=sys.stdout,
        bar_format=FORMAT,
        smoothing=0,
        miniters=1,
        **_size(sys.stdout),
    )
    printing = [logger for logger in map(logging.getLogger, LOGGERS) if any(map(_prints, logger.handlers))]
    with line, logging_redirect_tqdm(printing):
        for logger in printing:
            logger.handlers[-1].addFilter(_is_no_metric)  # the one that took the place of those to stdout
        trainer.register_hooks([ProgressHook(line, batch_size)])
        yield


def _size(terminal):
    """Arguments of tqdm that keep a line as wide as the terminal; 80 columns on one that does not tell its size."""
    known = os.get_terminal_size(terminal.fileno()).columns > 0
    return {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}


def _prints(handler):
    return getattr(handler, "stream", None) is sys.stdout


def _is_no_metric(record):
    return record.name != events.__name__
