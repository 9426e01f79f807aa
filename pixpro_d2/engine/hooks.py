"""Training hooks of pre-training."""

from detectron2.engine import HookBase

from ..modeling.momentum import momentum_at


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
