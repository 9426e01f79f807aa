"""Add hooks to the steps of training: seeds, momentum, checkpoints, health."""

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ..checkpoint.checkpointer import PixProCheckpointer
from ..checkpoint.convention import InputConvention
from ..checkpoint.plain_backbone import write_plain_backbone
from ..checkpoint.retention import remove_superseded
from ..modeling.pretrain.momentum import momentum_at
from ..monitoring.curves import Curve, read_curves
from ..monitoring.health import assess, verdict
from ..utils.signals import REQUEUE
from .loop import TrainLoop

if TYPE_CHECKING:
    from ..data.pretrain.loader import ViewLoader
    from ..modeling.pretrain.pixpro import PixPro

logger = logging.getLogger(__name__)


class SeedHook(HookBase):
    """Seed the random numbers of the model before every iteration, differently in each process.

    The numbers depend only on seed, iteration and process. A resumed run therefore draws the same numbers as an
    uninterrupted run, and checkpoints need no generator states.
    """

    def __init__(self, seed: int) -> None:
        """
        Args:
            seed: >= 0.
        """
        self.seed = seed

    def before_step(self) -> None:
        words = np.random.SeedSequence((self.seed, self.trainer.iter, comm.get_rank())).generate_state(1)
        seed_all_rng(int(words[0]))


class EMAHook(HookBase):
    """Move the target branch towards the online branch after every step.

    The official code updates at the start of an iteration's forward pass, with the momentum of this iteration.
    An update after iteration i with the momentum of iteration i + 1 is the same, and a checkpoint then holds the
    updated target. Update 0 of the official code does nothing, because both branches start equal.
    """

    def __init__(self, model: "PixPro") -> None:
        """
        Args:
            model: with ``momentum`` and ``move_target()``; not wrapped in DDP.
        """
        self.model = model

    def after_step(self) -> None:
        momentum = momentum_at(self.trainer.iter + 1, self.trainer.max_iter, self.model.momentum)
        self.model.move_target(momentum)
        self.trainer.storage.put_scalar("ema_momentum", momentum, smoothing_hint=False)


class UnreadableHook(HookBase):
    """Sum the number of skipped images over all processes whenever the losses are read."""

    def __init__(self, loader: "ViewLoader", loop: TrainLoop) -> None:
        """
        Args:
            loader: loader of the run.
            loop: training loop, which knows whether it has read the losses.
        """
        self.loader = loader
        self.loop = loop

    def after_step(self) -> None:
        if self.loop.has_read:
            self.loader.share_unreadable()


class LRScheduler(hooks.LRScheduler):
    """Record the learning rate of most weights, otherwise like detectron2's hook.

    detectron2 records the learning rate of the group with most tensors. With LARS, this group holds biases and norms,
    whose learning rate may differ.
    """

    def before_train(self) -> None:
        super().before_train()
        sizes = [sum(parameter.numel() for parameter in group["params"]) for group in self._optimizer.param_groups]
        self._best_param_group_id = sizes.index(max(sizes))


class PreciseBN(hooks.PreciseBN):
    """Use batches that depend only on the iteration, so that a resumed run uses them too; else like detectron2's.

    A loader without ``start_at(iteration)`` continues with its next batch, as in detectron2.
    """

    def update_stats(self) -> None:
        if not self._disabled and hasattr(self._data_loader, "start_at"):
            self._data_loader.start_at(self.trainer.iter + 1)
            self._data_iter = None
        super().update_stats()


class CollapseHook(HookBase):
    """Warn if the features of a level have been nearly the same everywhere for several readings in a row.

    Read the standard deviations that the model records as ``feature_std/LEVEL``; see
    :func:`pixpro_d2.modeling.pretrain.monitors.feature_std`.
    """

    READINGS = 10  # readings in a row that make a collapse; a dip during the first iterations is common

    def __init__(self, share: float, dim: int) -> None:
        """
        Args:
            share: share of 1 / sqrt(dim), the value of spread features, below which features count as collapsed.
            dim: channels of the features.
        """
        self.threshold = share / math.sqrt(dim)
        self._below: dict[str, int] = {}  # readings in a row, by name

    def after_step(self) -> None:
        for name, (value, iteration) in self.trainer.storage.latest().items():
            if name.startswith("feature_std/") and iteration == self.trainer.iter:
                self._below[name] = self._below.get(name, 0) + 1 if value < self.threshold else 0
                if self._below[name] == self.READINGS:
                    logger.warning(
                        f"The features of {name.split('/')[1]} have collapsed: their standard deviation {value:.2g} "
                        f"has been below {self.threshold:.2g} for {self.READINGS} readings. Pixels can no longer be "
                        "told apart: lower SOLVER.BASE_LR, lengthen the warm-up, or check MODEL.PIXPRO.PPM.ENABLED."
                    )


class CheckpointHook(HookBase):
    """Save ``model_XXXXXXX`` (the number of the iteration, from 0) regularly, and ``model_final`` at the end.

    A run that is asked to stop also saves a checkpoint. It exits with the code REQUEUE, and a scheduler may start it
    again. If another hook ends the run after an iteration whose losses were read, this hook saves a checkpoint too.
    Register this hook in all processes; only the main process writes.
    """

    def __init__(
        self,
        checkpointer: PixProCheckpointer,
        loop: TrainLoop,
        period: int,
        minutes: float = 0.0,
        keep_last: int = 0,
        keep_every: int = 0,
    ) -> None:
        """
        Args:
            checkpointer: saves the model, the optimiser and the hooks.
            loop: training loop, which knows whether its losses were read and whether to stop.
            period: iterations from one checkpoint to the next.
            minutes: time from one checkpoint to the next, checked when the losses are read; 0: no limit.
            keep_last, keep_every: see :func:`pixpro_d2.checkpoint.retention.remove_superseded`.
        """
        self.checkpointer = checkpointer
        self.loop = loop
        self.period = period
        self.minutes = minutes
        self.keep = keep_last, keep_every
        self._saved_at = time.monotonic()
        self._saved_after: int | None = None  # iteration of the last checkpoint, set before it is written

    def before_train(self) -> None:
        self._saved_at = time.monotonic()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        overdue = 0 < 60 * self.minutes <= time.monotonic() - self._saved_at and self.loop.has_read
        stops = self.loop.must_stop and done < self.trainer.max_iter
        if done % self.period == 0 or overdue or stops:
            self._save(f"model_{self.trainer.iter:07d}")
        if done == self.trainer.max_iter:
            self._save("model_final")
        if stops:
            comm.synchronize()  # the checkpoint must be complete: the first process that ends makes a launcher end all
            logger.info(f"Asked to stop: the run ends after iteration {self.trainer.iter}; add --resume to continue.")
            raise SystemExit(REQUEUE)

    def after_train(self) -> None:
        unsaved = self._saved_after != self.trainer.iter == self.loop.iter < self.trainer.max_iter
        if unsaved and self.loop.has_read:
            logger.info("The run ends early, after a complete iteration.")
            self._save(f"model_{self.trainer.iter:07d}")

    def _save(self, name: str) -> None:
        self._saved_after = self.trainer.iter
        self.checkpointer.save(name, iteration=self.trainer.iter)
        self._saved_at = time.monotonic()
        if comm.is_main_process():
            remove_superseded(self.checkpointer.save_dir, *self.keep)


class PlainBackboneHook(HookBase):
    """Write the backbone of a finished run as a plain network of torchvision or timm; see plain_backbone.py.

    Register this hook last, in the main process.
    """

    def __init__(self, checkpointer: PixProCheckpointer, convention: InputConvention) -> None:
        """
        Args:
            checkpointer: holds the model and the folder of the run.
            convention: input of the model.
        """
        self.checkpointer = checkpointer
        self.convention = convention

    def after_train(self) -> None:
        if self.trainer.iter < self.trainer.max_iter:  # the run has failed
            return
        sentence = write_plain_backbone(self.checkpointer.model, self.convention, self.checkpointer.save_dir)
        none = "No network of torchvision or timm is equal to this backbone and its input, so the run writes none."
        logger.info(sentence or none)


class HealthHook(HookBase):
    """Judge the values recorded so far, regularly and at the end, in a resumed run also the values from before.

    Register this hook in the main process, which records the values, after the hook that evaluates.
    """

    def __init__(self, period: int, share: float, dim: int, folder: str, written: int = 1) -> None:
        """
        Args:
            period: iterations from one judgement to the next; 0: judge only at the end.
            share: share of 1 / sqrt(dim), the standard deviation of spread features, below which features count as
                collapsed.
            dim: channels of the projections.
            folder: folder of the run, with its metrics.json.
            written: iterations from one line of metrics.json to the next; only the last value of each line counts.
        """
        self.period = period
        self.collapsed = share
        self.spread = 1 / math.sqrt(dim)
        self.path = Path(folder, "metrics.json")
        self.written = written
        self._earlier: dict[str, Curve] = {}

    def before_train(self) -> None:
        if self.path.is_file():
            start, (curves, _) = self.trainer.start_iter, read_curves(self.path)
            self._earlier = {name: [point for point in curve if point[0] < start] for name, curve in curves.items()}

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done != self.trainer.max_iter:
            self._judge(done)

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:  # the run has not failed
            self._judge(self.trainer.iter)

    def _judge(self, done: int) -> None:
        curves = {name: list(curve) for name, curve in self._earlier.items()}
        for name, history in self.trainer.storage.histories().items():
            lines = {i // self.written: (i, value) for value, i in history.values()}
            curves.setdefault(name, []).extend(lines.values())
        findings = assess(curves, self.spread, self.collapsed)
        _, title, reasons = verdict(findings)
        logger.info(f"After {done} iterations: {title}: {reasons}")
