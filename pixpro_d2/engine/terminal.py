"""What a run shows on the terminal: the lines that a user needs, and one line of progress; log.txt gets everything."""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm, events
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.events import EventStorage
from detectron2.utils.logger import setup_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOGGERS = ("fvcore", "detectron2", "pixpro_d2")  # set up to print to stdout and to write log.txt
DETAILS = "pixpro_d2.details"  # logger of texts that are too long for a terminal
# Loggers whose messages, except for warnings, go to log.txt alone: the whole model, and details of reading data.
LOG_ONLY = (
    DETAILS,
    "detectron2.engine.defaults",
    *(f"detectron2.data.{name}" for name in ("build", "common", "dataset_mapper")),
)
LINE_FORMAT = "{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
SPEED_ITERATIONS = 20  # number of iterations in the mean of the speed
# Messages of libraries that a user cannot act on; data.io.workers has its own warning about the number of workers.
SILENT_WARNINGS = ("This DataLoader will create",)
SILENT_LOGGERS = ("torch.utils.cpp_extension",)


def set_up_logging(folder: str) -> None:
    """Let the loggers of a run print to stdout and write ``folder``/log.txt, each process a file of its own.

    The handlers of an earlier run in this process are removed: its log.txt is complete, and lines are printed once.
    """
    add_handlers = setup_logger.__wrapped__  # its cache would add none in a folder where this process ran before
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if hasattr(handler, "run_folder")]:
            logger.removeHandler(handler)
        others = list(logger.handlers)
        add_handlers(folder, distributed_rank=comm.get_rank(), name=name)
        for handler in logger.handlers:
            if handler not in others:
                handler.run_folder = folder
                if _prints(handler):
                    handler.addFilter(is_for_terminal)
                elif handler.formatter is not None:
                    handler.setFormatter(_Uncoloured(handler.formatter._fmt, handler.formatter.datefmt))
    for text in SILENT_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


class _Uncoloured(logging.Formatter):
    """Remove colour codes, which detectron2 puts into the texts themselves when it runs on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", super().format(record))


def log_details(cfg: CfgNode, command: str) -> None:
    """Write environment, command and the whole config of a run to its log.txt, but not to the terminal."""
    details = logging.getLogger(DETAILS)
    details.info(f"Process {comm.get_rank()} of {comm.get_world_size()}. Command: {command}")
    details.info(f"Environment:\n{collect_env_info()}")
    details.info(f"Config:\n{cfg.dump()}")


def is_for_terminal(record: logging.LogRecord) -> bool:
    """Return whether a message is printed, not written to log.txt alone."""
    return record.levelno >= logging.WARNING or record.name not in LOG_ONLY


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
            for allowed in (is_for_terminal, _is_no_metric):
                # tqdm has put the last handler in place of the handlers to stdout.
                logger.handlers[-1].addFilter(allowed)
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
