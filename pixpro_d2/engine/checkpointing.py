"""When a run writes checkpoints, which of them stay, and how it ends when it is asked to stop."""

import logging
import time

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..checkpoint.retention import remove_superseded
from ..stop_signals import REQUEUE

logger = logging.getLogger(__name__)


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
