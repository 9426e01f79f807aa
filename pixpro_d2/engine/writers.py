"""Write metrics to Weights & Biases, and a progress line to the terminal."""

import contextlib
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm, events
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..utils.files import read_json, write_json

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

RUN_FILE = "wandb.json"  # in OUTPUT_DIR; holds the id of the W&B run that a resumed run continues


class WandbWriter(EventWriter):
    """Write recorded scalars and pictures to a run of Weights & Biases, each at its iteration.

    Register this writer in the main process, before detectron2's TensorboardXWriter, which clears the pictures. The run
    starts with the first values, so a dry run of a training starts none. Values that the run already has from before an
    interruption are not written again.
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
            failed = sys.exc_info()[0] is not None  # an exception closes the writers on its way
            with tqdm.external_write_mode():
                self._run.finish(exit_code=int(failed))


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
        cfg: complete config, as :func:`.configure.setup` returns it.
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
        reason = " ".join(str(error).split())
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


LOGGERS = ("fvcore", "detectron2", "pixpro_d2")  # loggers that may print to stdout
LINE_FORMAT = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
SPEED_ITERATIONS = 20  # the speed is a mean over so many iterations


class _Line(tqdm):
    """Show progress without a refreshing thread, because threads put the forked data workers at risk."""

    monitor_interval = 0


class ProgressHook(HookBase):
    """Move the progress line after every step; register this hook last, so that a step includes all other hooks."""

    def __init__(self, line: tqdm, batch_size: int) -> None:
        """
        Args:
            line: progress line of iterations.
            batch_size: images of all processes in an iteration.
        """
        self.line = line
        self.batch_size = batch_size

    def after_step(self) -> None:
        self.line.set_postfix_str(describe(self.trainer.storage, self.batch_size), refresh=False)
        self.line.update()


def describe(storage: EventStorage, batch_size: int) -> str:
    """Return the last recorded loss, learning rate and speed; skip values that are not recorded.

    Args:
        storage: storage of the training.
        batch_size: images of all processes in an iteration.

    Returns:
        A text such as ``loss -1.234, lr 0.05000, 18.6 images/s``.
    """
    latest = storage.latest()
    labels = {"total_loss": "loss", "lr": "lr"}
    parts = [f"{label} {latest[name][0]:#.4g}" for name, label in labels.items() if name in latest]
    if "time" in latest:
        parts.append(f"{batch_size / storage.history('time').avg(SPEED_ITERATIONS):.1f} images/s")
    return ", ".join(parts)


@contextlib.contextmanager
def progress_line(trainer: TrainerBase, batch_size: int) -> Iterator[None]:
    """Show a progress line at the foot of the terminal, in the main process of a training within this context.

    Log lines appear above the progress line. The metrics of every 20 iterations only go to log.txt. If stdout is no
    terminal, nothing changes. The remaining time is estimated from all iterations so far, with evaluations and
    checkpoints.

    Args:
        trainer: trainer that starts within the context, with ``start_iter`` and ``max_iter``.
        batch_size: images of all processes in an iteration.
    """
    if not (comm.is_main_process() and sys.stdout.isatty()):
        yield
        return
    line = _Line(
        initial=trainer.start_iter,
        total=trainer.max_iter,
        file=sys.stdout,
        bar_format=LINE_FORMAT,
        smoothing=0,
        miniters=1,
        **_size(sys.stdout),
    )
    printing = [logger for logger in map(logging.getLogger, LOGGERS) if any(map(_prints, logger.handlers))]
    with line, logging_redirect_tqdm(printing):
        for logger in printing:
            logger.handlers[-1].addFilter(_is_no_metric)  # tqdm has put this handler in place of the handlers to stdout
        trainer.register_hooks([ProgressHook(line, batch_size)])
        yield


def _size(terminal: TextIO) -> dict[str, Any]:
    """Return arguments of tqdm for a line as wide as the terminal; 80 columns if the terminal reports no size."""
    known = os.get_terminal_size(terminal.fileno()).columns > 0
    return {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}


def _prints(handler: logging.Handler) -> bool:
    """Return whether a handler of a logger prints to stdout."""
    return getattr(handler, "stream", None) is sys.stdout


def _is_no_metric(record: logging.LogRecord) -> bool:
    """Return whether a log record is no line of metrics."""
    return record.name != events.__name__
