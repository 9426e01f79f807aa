"""Whether a pre-training looks healthy, said in the log while it runs."""

import logging
import math
from pathlib import Path

from detectron2.engine import HookBase

from ..report.curves import read_curves
from ..report.health import assess, verdict

logger = logging.getLogger(__name__)


class HealthHook(HookBase):
    """Judges the values recorded so far, by a run that goes on those from before too, every so often and at the end.

    Belongs into the main process, which records them, after the hook that evaluates.
    """

    def __init__(self, period, share, dim, guard, folder):
        """
        Args:
            period (int): iterations from one judgement to the next; 0 for one at the end only.
            share (float): of 1 / sqrt(dim), the standard deviation of spread features, that counts as collapsed below.
            dim (int): channels of the projections.
            guard (StepGuard): counts the steps that were left out.
            folder (str): of the run, with its metrics.json.
        """
        self.period = period
        self.collapsed = share
        self.spread = 1 / math.sqrt(dim)
        self.guard = guard
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
        findings = assess(curves, self.spread, self.collapsed, int(self.guard.skipped))
        _, title, reasons = verdict(findings)
        logger.info(f"After {done} iterations: {title}: {reasons}")
