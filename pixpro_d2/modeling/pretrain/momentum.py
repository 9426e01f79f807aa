"""The momentum update of the target branch."""

import torch
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import Tensor


def momentum_at(iteration: int, max_iter: int, base: float = 0.99) -> float:
    """Return the momentum of update number ``iteration``: ``base`` at 0, 1 at ``max_iter``, a half cosine between.

    The official code computes 1 - (1 - base) (cos(pi k / K) + 1) / 2 from a counter k. Here k is the iteration, so that
    a resumed run continues the curve.
    """
    return CosineParamScheduler(base, 1.0)(min(iteration / max_iter, 1.0))


@torch.no_grad()
def update_target(online_params: list[Tensor], target_params: list[Tensor], momentum: float) -> None:
    """Compute target = momentum * target + (1 - momentum) * online, in place.

    Args:
        online_params, target_params: in the same order, of equal shapes and devices.
        momentum: in [0, 1].
    """
    torch._foreach_lerp_(target_params, online_params, 1.0 - momentum)
