"""Learning-rate schedule of PixPro, and how the rate follows the batch."""

import math

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
)


def warmup_cosine(warmup_iters, max_iter, warmup_factor=0.01, end_factor=0.0):
    """Linear warm-up, then a half cosine over the rest of the run, as multiples of the base rate.

    The official PixPro schedule: ``warmup_factor`` at iteration 0 (its multiplier 100 is 0.01 here), 1 at
    ``warmup_iters``, ``end_factor`` (eta / base rate) at ``max_iter``.

    Returns:
        ParamScheduler: a function of iteration / max_iter in [0, 1].
    """
    cosine = CosineParamScheduler(1.0, end_factor)
    if warmup_iters == 0:
        return cosine
    if warmup_iters >= max_iter:
        return LinearParamScheduler(warmup_factor, 1.0)
    share = warmup_iters / max_iter
    return CompositeParamScheduler(
        [LinearParamScheduler(warmup_factor, 1.0), cosine],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled"],
    )


def scaled_lr(base_lr, batch, reference_batch, scaling):
    """Learning rate for ``batch`` images: ``base_lr`` at ``reference_batch``, changing with the batch by
    ``scaling``: ``none``, ``linear`` (Goyal et al. 2017), or ``sqrt`` (the PixPro authors' advice for LARS).
    """
    ratio = batch / reference_batch
    factors = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return base_lr * factors[scaling]
