"""What a run shows on the terminal: the lines that a user needs, and one line of progress; log.txt gets everything."""

import contextlib
import logging
import os
import sys
import warnings

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm, events
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOGGERS = ("fvcore", "detectron2", "pixpro_d2")  # set up to print to stdout and to write log.txt
DETAILS = "pixpro_d2.details"  # logger of texts that are too long for a terminal
LOG_ONLY = (DETAILS, "detectron2.engine.defaults")  # the second prints the whole model
# Of libraries; nothing that a user could change.
SILENT_WARNINGS = ("torch.meshgrid: in an upcoming release", "This DataLoader will create")
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
    for text in SILENT_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def log_details(cfg: CfgNode, command: str) -> None:
    """Write environment, command and the whole config of a run to its log.txt, but not to the terminal."""
    details = logging.getLogger(DETAILS)
    details.info(f"Process {comm.get_rank()} of {comm.get_world_size()}. Command: {command}")
    details.info(f"Environment:\n{collect_env_info()}")
    details.info(f"Config:\n{cfg.dump()}")


def is_for_terminal(record: logging.LogRecord) -> bool:
    """Return whether a message is printed, not written to log.txt alone."""
    return record.name not in LOG_ONLY


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
            for allowed in (is_for_terminal, _is_no_metric):
                logger.handlers[-1].addFilter(allowed)  # the handler that took the place of those to stdout
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
