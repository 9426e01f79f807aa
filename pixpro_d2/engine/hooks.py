"""What happens around the steps of training."""

import logging
import math

import numpy as np
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ..modeling.momentum import momentum_at

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
    :func:`pixpro_d2.modeling.monitors.feature_std`.
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
