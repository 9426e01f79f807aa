"""Hooks around the steps of training: seeds, momentum, checkpoints, health."""

import logging
import math
import time
from pathlib import Path

import numpy as np
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ..checkpoint.retention import remove_superseded
from ..modeling.pretrain.momentum import momentum_at
from ..monitoring.curves import read_curves
from ..monitoring.health import assess, verdict
from ..utils.signals import REQUEUE

logger = logging.getLogger(__name__)


class SeedHook(HookBase):
    """Seeds the random numbers that the model draws, anew for every iteration and process.

    They follow from the seed and the iteration alone, so that a resumed run goes on with those of an uninterrupted one
    and no generator's state need be kept.
    """

    def __init__(self, seed):
        """
        Args:
            seed (int): >= 0.
        """
        self.seed = seed

    def before_step(self):
        words = np.random.SeedSequence((self.seed, self.trainer.iter, comm.get_rank())).generate_state(1)
        seed_all_rng(int(words[0]))


class EMAHook(HookBase):
    """Moves the target branch towards the online branch after every step.

    The official code updates at the start of an iteration's forward pass, with that iteration's momentum.
    Updating after iteration i with the momentum of i + 1 is the same (update 0 does nothing, because
    both branches start equal) and puts the updated target into the checkpoint.
    """

    def __init__(self, model):
        """
        Args:
            model (PixPro): with ``momentum`` and ``move_target()``; not wrapped in DDP.
        """
        self.model = model

    def after_step(self):
        momentum = momentum_at(self.trainer.iter + 1, self.trainer.max_iter, self.model.momentum)
        self.model.move_target(momentum)
        self.trainer.storage.put_scalar("ema_momentum", momentum, smoothing_hint=False)


class UnreadableHook(HookBase):
    """Has the processes count together the images that they had to skip, where they read their losses."""

    def __init__(self, loader, loop):
        """
        Args:
            loader (ViewLoader): of the run.
            loop (TrainLoop): tells when it has read the losses.
        """
        self.loader = loader
        self.loop = loop

    def after_step(self):
        if self.loop.has_read:
            self.loader.share_unreadable()


class LRScheduler(hooks.LRScheduler):
    """detectron2's, but records the learning rate that most weights have.

    detectron2 takes the group with most tensors: with LARS those are biases and norms, whose rate may be another one.
    """

    def before_train(self):
        super().before_train()
        sizes = [sum(parameter.numel() for parameter in group["params"]) for group in self._optimizer.param_groups]
        self._best_param_group_id = sizes.index(max(sizes))


class PreciseBN(hooks.PreciseBN):
    """detectron2's, on batches that follow from the iteration, which a resumed run sees too."""

    def update_stats(self):
        if not self._disabled:
            self._data_loader.start_at(self.trainer.iter + 1)
            self._data_iter = None
        super().update_stats()


class CollapseHook(HookBase):
    """Warns when the features of a level have been nearly the same everywhere for a while.

    Reads the standard deviations that the model records as ``feature_std/LEVEL``; see
    :func:`pixpro_d2.modeling.pretrain.monitors.feature_std`.
    """

    READINGS = 10  # in a row that make a collapse; a dip during the first iterations is common

    def __init__(self, share, dim):
        """
        Args:
            share (float): of 1 / sqrt(dim), the value of spread features, that counts as collapsed below.
            dim (int): channels of the features.
        """
        self.threshold = share / math.sqrt(dim)
        self._below = {}  # name -> readings in a row

    def after_step(self):
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
    """Saves ``model_XXXXXXX`` (the number of the iteration, from 0) every so often, and ``model_final`` at the end.

    A run that is asked to stop saves too, and exits with the code REQUEUE, upon which a scheduler may start it again.
    So does one that another hook ends after an iteration whose losses were read, as after the last.
    Belongs into all processes; the checkpointer writes in the main process alone.
    """

    def __init__(self, checkpointer, loop, period, minutes=0.0, keep_last=0, keep_every=0):
        """
        Args:
            checkpointer (PixProCheckpointer):
            loop (TrainLoop): tells when its losses were read, and whether to stop.
            period (int): iterations from one checkpoint to the next.
            minutes (float): also after so much time, at the next reading of the losses; 0: never.
            keep_last, keep_every (int): see :func:`pixpro_d2.checkpoint.retention.remove_superseded`.
        """
        self.checkpointer = checkpointer
        self.loop = loop
        self.period = period
        self.minutes = minutes
        self.keep = keep_last, keep_every
        self._saved_at = time.monotonic()
        self._saved_after = None  # iteration of the last checkpoint that was begun

    def before_train(self):
        self._saved_at = time.monotonic()

    def after_step(self):
        done = self.trainer.iter + 1
        overdue = 0 < 60 * self.minutes <= time.monotonic() - self._saved_at and self.loop.has_read
        stops = self.loop.must_stop and done < self.trainer.max_iter
        if done % self.period == 0 or overdue or stops:
            self._save(f"model_{self.trainer.iter:07d}")
        if done == self.trainer.max_iter:
            self._save("model_final")
        if stops:
            comm.synchronize()  # nobody ends before the checkpoint is complete: a launcher ends all with the first
            logger.info(f"Asked to stop: the run ends after iteration {self.trainer.iter}; go on with --resume.")
            raise SystemExit(REQUEUE)

    def after_train(self):
        unsaved = self._saved_after != self.trainer.iter == self.loop.iter < self.trainer.max_iter
        if unsaved and self.loop.has_read:
            logger.info("The run ends early, after a complete iteration.")
            self._save(f"model_{self.trainer.iter:07d}")

    def _save(self, name):
        self._saved_after = self.trainer.iter
        self.checkpointer.save(name, iteration=self.trainer.iter)
        self._saved_at = time.monotonic()
        if comm.is_main_process():
            remove_superseded(self.checkpointer.save_dir, *self.keep)


class HealthHook(HookBase):
    """Judges the values recorded so far, by a run that goes on those from before too, every so often and at the end.

    Belongs into the main process, which records them, after the hook that evaluates.
    """

    def __init__(self, period, share, dim, folder):
        """
        Args:
            period (int): iterations from one judgement to the next; 0 for one at the end only.
            share (float): of 1 / sqrt(dim), the standard deviation of spread features, that counts as collapsed below.
            dim (int): channels of the projections.
            folder (str): of the run, with its metrics.json.
        """
        self.period = period
        self.collapsed = share
        self.spread = 1 / math.sqrt(dim)
        self.path = Path(folder, "metrics.json")
        self._earlier = {}

    def before_train(self):
        if self.path.is_file():
            start, (curves, _) = self.trainer.start_iter, read_curves(self.path)
            self._earlier = {name: [point for point in curve if point[0] < start] for name, curve in curves.items()}

    def after_step(self):
        done = self.trainer.iter + 1
        if self.period > 0 and done % self.period == 0 and done != self.trainer.max_iter:
            self._judge(done)

    def after_train(self):
        if self.trainer.iter >= self.trainer.max_iter:  # not after a failure
            self._judge(self.trainer.iter)

    def _judge(self, done):
        curves = {name: list(curve) for name, curve in self._earlier.items()}
        for name, history in self.trainer.storage.histories().items():
            curves.setdefault(name, []).extend((i, value) for value, i in history.values())
        findings = assess(curves, self.spread, self.collapsed)
        _, title, reasons = verdict(findings)
        logger.info(f"After {done} iterations: {title}: {reasons}")
