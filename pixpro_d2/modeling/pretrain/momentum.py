"""The momentum update of the target branch."""

import torch
from fvcore.common.param_scheduler import CosineParamScheduler


def momentum_at(iteration, max_iter, base=0.99):
    """Momentum of update number ``iteration``: ``base`` at 0, 1 at ``max_iter``, a half cosine between.

    1 - (1 - base) (cos(pi k / K) + 1) / 2 of the official code, from the iteration rather than a counter,
    so that a resumed run continues it.
    """
    return CosineParamScheduler(base, 1.0)(min(iteration / max_iter, 1.0))


@torch.no_grad()
def update_target(online_params, target_params, momentum):
    """target = momentum * target + (1 - momentum) * online, in place.

    Args:
        online_params, target_params (list[Tensor]): in the same order, of equal shapes and devices.
        momentum (float): in [0, 1].
    """
    torch._foreach_lerp_(target_params, online_params, 1.0 - momentum)
