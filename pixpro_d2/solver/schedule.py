"""Learning-rate schedule of PixPro, and scaling of the learning rate with the batch size."""

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)


def warmup_cosine(
    warmup_iters: int,
    max_iter: int,
    warmup_factor: float = 0.01,
    end_factor: float = 0.0,
    method: str = "linear",
) -> ParamScheduler:
    """Build a warm-up and then a half cosine over the rest of the run, as multiples of the base learning rate.

    The linear schedule is official PixPro's: ``warmup_factor`` at iteration 0 (the official multiplier 100 is 0.01
    here), 1 at ``warmup_iters``, ``end_factor`` (eta / base learning rate) at ``max_iter``. A ``constant`` warm-up
    stays at ``warmup_factor``.

    Returns:
        A function of iteration / max_iter in [0, 1].
    """
    cosine = CosineParamScheduler(1.0, end_factor)
    if warmup_iters == 0:
        return cosine
    warmup = LinearParamScheduler(warmup_factor, warmup_factor if method == "constant" else 1.0)
    if warmup_iters >= max_iter:
        return warmup
    share = warmup_iters / max_iter
    return CompositeParamScheduler(
        [warmup, cosine],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled"],
    )


def scaled_lr(base_lr: float, batch: int, reference_batch: int, scaling: str) -> float:
    """Return the learning rate for a batch of ``batch`` images, given ``base_lr`` at ``reference_batch`` images.

    ``scaling`` is ``none``, which needs no reference, ``linear`` (Goyal et al. 2017), or ``sqrt`` (the PixPro authors'
    advice for LARS).
    """
    exponent = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[scaling]
    return base_lr * (batch / reference_batch) ** exponent if exponent else base_lr
