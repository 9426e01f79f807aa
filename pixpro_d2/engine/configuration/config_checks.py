"""Check the values of config keys: one line for each key, checked whenever a config is loaded."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ...config import is_pretraining
from ...data.pretrain.views import INTERPOLATIONS
from ...modeling.batch_norms import CLASSES, KEPT
from ...modeling.heads.dense_head import HEADS
from ...modeling.pretrain.agreement import LOSSES
from ...modeling.pretrain.flow_points import CONSISTENCY
from ...modeling.pretrain.methods import METHODS
from ...utils.errors import UsageError, check_choice
from ...utils.nested import flatten, value_of


def check_values(cfg: CfgNode) -> None:
    """Check every key of ``RANGES`` and ``CHOICES``, and the keys that depend on each other.

    Raises:
        UsageError: for the first key with a value out of its range.
    """
    for key, (words, fits) in RANGES.items():
        value = value_of(cfg, key)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not all(map(math.isfinite, numbers)):
            words = f"finite and {words}"
        elif all(map(fits, numbers)) and (numbers or key in MAY_BE_EMPTY):
            continue
        raise UsageError(f"{key} is {value}; it must be {words}{' each' if numbers is value else ''}.")
    for key, choices in CHOICES.items():
        check_choice(key, value_of(cfg, key), choices)
    for key, value in flatten(cfg).items():
        if key.startswith("MODEL.") and key.endswith(".NORM"):
            check_choice(key, value, NORMS)
    levels = list(cfg.MODEL.PIXPRO.IN_FEATURES)
    if len(set(levels)) < len(levels):
        raise UsageError(f"MODEL.PIXPRO.IN_FEATURES is {levels}; it must name each feature once.")
    if not any(value_of(cfg, f"MODEL.PIXPRO.{key}") for key in WEIGHTS):
        raise UsageError(
            "MODEL.PIXPRO.PIXEL_WEIGHT is 0, and no other loss has a weight: raise it, or MODEL.PIXPRO.DISTILL.WEIGHT, "
            "INSTANCE.WEIGHT, VARIANCE_WEIGHT or COVARIANCE_WEIGHT."
        )
    check_pixel_statistics(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    sizes, sampling = list(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if sampling == "range" and len(sizes) != 2:
        raise UsageError(
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}; with MIN_SIZE_TRAIN_SAMPLING range it must be a smallest and a "
            "largest size: repeat a size that is to be the only one."
        )
    check_pixel_range("INPUT.PIXEL_RANGE", cfg.INPUT.PIXEL_RANGE)
    smallest, largest = cfg.INPUT.PIXPRO.MIN_SCALE, cfg.INPUT.PIXPRO.MAX_SCALE
    if smallest > largest:
        raise UsageError(f"INPUT.PIXPRO.MAX_SCALE is {largest}; it must be at least MIN_SCALE, {smallest}.")
    crop, resize = cfg.INPUT.CLASSIFICATION.CROP_SIZE, cfg.INPUT.CLASSIFICATION.RESIZE
    if crop > resize:
        raise UsageError(
            f"INPUT.CLASSIFICATION.CROP_SIZE is {crop}; it must be at most RESIZE, {resize}, out of which it is cut in "
            "testing."
        )


def check_used(cfg: CfgNode) -> None:
    """Check that a new training has no value that would do nothing with its task or its optimiser.

    Raises:
        UsageError: for the first such key.
    """
    acceleration = () if is_pretraining(cfg) else ("MODEL.PIXPRO.COMPILE", "MODEL.PIXPRO.RECOMPUTE")
    for key in acceleration:
        if value_of(cfg, key):
            raise UsageError(f"{key} is True, but only pre-training uses this key: remove it.")
    for key in UNUSED_BY.get(cfg.SOLVER.OPTIMIZER, ()):
        if value_of(cfg, key):
            raise UsageError(
                f"{key} is {value_of(cfg, key)}, but SOLVER.OPTIMIZER {cfg.SOLVER.OPTIMIZER} does not use this key: "
                "remove it, or choose SGD."
            )


def check_pixel_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Check that mean and standard deviation have equally many values, in the range of pixels from 0 to 255.

    Raises:
        UsageError: otherwise.
    """
    if len(mean) != len(std):
        raise UsageError(
            f"MODEL.PIXEL_STD has {len(std)} values and MODEL.PIXEL_MEAN {len(mean)}: give both one value a channel."
        )
    if max(std) < 1:
        raise UsageError(
            f"MODEL.PIXEL_STD is {list(std)}, as of pixels from 0 to 1, but pixels are from 0 to 255 here: multiply "
            "MODEL.PIXEL_MEAN and MODEL.PIXEL_STD by 255."
        )


def check_pixel_range(key: str, values: Sequence[Any]) -> None:
    """Check that ``values`` of the key or option ``key`` is empty, or a lower and a higher number.

    Raises:
        UsageError: otherwise.
    """
    finite = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    if values and not (finite and len(values) == 2 and values[0] < values[1]):
        raise UsageError(f"{key} is {list(values)}; it must be empty, or two numbers of which the first is lower.")


_Range = tuple[str, Callable[[float], bool]]  # the allowed numbers in words, and the test of a finite number


def _at_least(low: float) -> _Range:
    return f"at least {low}", lambda value: value >= low


def _above(low: float) -> _Range:
    return f"above {low}", lambda value: value > low


def _between(low: float, high: float) -> _Range:
    return f"from {low} to {high}", lambda value: low <= value <= high


def _is(number: float) -> Callable[[float], bool]:
    return lambda value: value == number


_SHARE: _Range = "above 0 and at most 1", lambda value: 0 < value <= 1

# Range of the number of a key, or of each number of its list.
RANGES: dict[str, _Range] = {
    "MODEL.PIXPRO.POS_RATIO": _above(0),
    "MODEL.PIXPRO.MOMENTUM": _between(0, 1),
    "MODEL.PIXPRO.TEMPERATURE": _above(0),
    "MODEL.PIXPRO.PIXEL_WEIGHT": _at_least(0),
    "MODEL.PIXPRO.VARIANCE_WEIGHT": _at_least(0),
    "MODEL.PIXPRO.COVARIANCE_WEIGHT": _at_least(0),
    "MODEL.PIXPRO.COLLAPSE_STD": _at_least(0),
    "MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM": _at_least(1),
    "MODEL.PIXPRO.PROJECTOR.OUT_DIM": _at_least(1),
    "MODEL.PIXPRO.PPM.GAMMA": _above(0),
    "MODEL.PIXPRO.PPM.NUM_LAYERS": _between(0, 2),
    "MODEL.PIXPRO.FLOW.SCALE": _at_least(1),
    "MODEL.PIXPRO.FLOW.ALPHA1": _at_least(0),
    "MODEL.PIXPRO.FLOW.ALPHA2": _above(0),
    "MODEL.PIXPRO.DISTILL.WEIGHT": _at_least(0),
    "MODEL.PIXPRO.INSTANCE.WEIGHT": _at_least(0),
    "MODEL.PIXPRO.INSTANCE.TEMPERATURE": _above(0),
    "MODEL.PIXPRO.DENSECL.QUEUE_SIZE": _at_least(1),
    "MODEL.PIXPRO.DENSECL.WEIGHT": _at_least(0),
    "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES": _at_least(2),
    "MODEL.PIXPRO.SLOTCON.TARGET_TEMPERATURE": _above(0),
    "MODEL.PIXPRO.SLOTCON.ONLINE_TEMPERATURE": _above(0),
    "MODEL.PIXPRO.SLOTCON.CENTER_MOMENTUM": _between(0, 1),
    "MODEL.PIXPRO.SLOTCON.GROUP_WEIGHT": _between(0, 1),
    "MODEL.PIXPRO.SLOTCON.MIN_SHARE": _between(0, 1),
    "MODEL.REGNETS.STEM_WIDTH": _at_least(1),
    "MODEL.REGNETS.DEPTH": _at_least(1),
    "MODEL.REGNETS.W_A": _at_least(0),
    "MODEL.REGNETS.W_0": _above(0),
    "MODEL.REGNETS.W_M": _above(1),
    "MODEL.REGNETS.GROUP_WIDTH": _at_least(1),
    "MODEL.REGNETS.SE_RATIO": _between(0, 1),
    "MODEL.TIMM.OUTPUT_STRIDE": ("8, 16 or 32", lambda value: value in (8, 16, 32)),
    "MODEL.BACKBONE.FREEZE_AT": _between(0, 5),
    "MODEL.FPN.OUT_CHANNELS": _at_least(1),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": _at_least(1),
    "MODEL.RPN.POSITIVE_FRACTION": _SHARE,
    "MODEL.RPN.NMS_THRESH": _between(0, 1),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _at_least(1),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _at_least(1),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _at_least(1),
    "MODEL.RPN.POST_NMS_TOPK_TEST": _at_least(1),
    "MODEL.ROI_HEADS.NUM_CLASSES": _at_least(1),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": _at_least(1),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": _SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": _between(0, 1),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": _between(0, 1),
    "MODEL.ROI_BOX_HEAD.NUM_FC": _at_least(0),
    "MODEL.ROI_BOX_HEAD.FC_DIM": _at_least(1),
    "MODEL.ROI_BOX_HEAD.NUM_CONV": _at_least(0),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": _at_least(1),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": _at_least(1),
    "MODEL.ROI_MASK_HEAD.NUM_CONV": _at_least(0),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": _at_least(1),
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": _at_least(1),
    "MODEL.RETINANET.NUM_CLASSES": _at_least(1),
    "MODEL.RETINANET.NUM_CONVS": _at_least(0),
    "MODEL.RETINANET.SCORE_THRESH_TEST": _between(0, 1),
    "MODEL.RETINANET.NMS_THRESH_TEST": _between(0, 1),
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _at_least(1),
    "MODEL.SEM_SEG_HEAD.NUM_CONVS": _at_least(0),
    "MODEL.SEM_SEG_HEAD.DILATION": _at_least(1),
    "MODEL.FCOS.NUM_CLASSES": _at_least(1),
    "MODEL.FCOS.NUM_CONVS": _at_least(0),
    "MODEL.FCOS.SCORE_THRESH_TEST": _between(0, 1),
    "MODEL.FCOS.NMS_THRESH_TEST": _between(0, 1),
    "MODEL.CLASSIFIER.NUM_CLASSES": _at_least(1),
    "MODEL.CLASSIFIER.NEIGHBORS": _at_least(1),
    "MODEL.CLASSIFIER.TEMPERATURE": _above(0),
    "MODEL.PIXEL_STD": _above(0),
    "INPUT.MIN_SIZE_TRAIN": _at_least(1),
    "INPUT.MAX_SIZE_TRAIN": _at_least(1),
    "INPUT.MIN_SIZE_TEST": _at_least(0),  # 0: no resizing
    "INPUT.MAX_SIZE_TEST": _at_least(1),
    "INPUT.CROP.SIZE": _above(0),
    "INPUT.PIXPRO.CROP_SIZE": _at_least(1),
    "INPUT.PIXPRO.MIN_SCALE": _SHARE,
    "INPUT.PIXPRO.MAX_SCALE": _SHARE,
    "INPUT.PIXPRO.MIN_OVERLAP": ("at least 0 and below 1", lambda value: 0 <= value < 1),
    "INPUT.PIXPRO.N_FRAMES": _at_least(0),
    "INPUT.PIXPRO.STARTS_PER_VIDEO": _at_least(1),
    "INPUT.PIXPRO.SWAP_P": _between(0, 1),
    "INPUT.CLASSIFICATION.CROP_SIZE": _at_least(1),
    "INPUT.CLASSIFICATION.RESIZE": _at_least(1),
    "INPUT.CLASSIFICATION.MIN_SCALE": _SHARE,
    "DATALOADER.NUM_WORKERS": _between(0, 256),  # processes
    "DATALOADER.RANDOM_SUBSET_RATIO": _SHARE,
    "DATALOADER.REPEAT_THRESHOLD": _between(0, 1),
    "DATALOADER.MAX_UNREADABLE": _between(0, 1),
    "DATALOADER.RETRY_SECONDS": _at_least(0),
    "DATALOADER.MAX_IMAGE_PIXELS": _at_least(1),
    "SOLVER.IMS_PER_BATCH": _at_least(1),
    "SOLVER.MAX_ITER": _at_least(1),
    "SOLVER.MAX_EPOCHS": _at_least(0),
    "SOLVER.WARMUP_ITERS": _at_least(0),
    "SOLVER.WARMUP_EPOCHS": _at_least(0),
    "SOLVER.WARMUP_FACTOR": _at_least(0),
    "SOLVER.STEPS": _at_least(1),
    "SOLVER.GAMMA": _above(0),
    "SOLVER.BASE_LR": _above(0),
    "SOLVER.BASE_LR_END": _at_least(0),
    "SOLVER.BIAS_LR_FACTOR": _at_least(0),
    "SOLVER.LR_REFERENCE_BATCH": _at_least(0),
    "SOLVER.MOMENTUM": _between(0, 1),
    "SOLVER.WEIGHT_DECAY": _at_least(0),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _above(0),
    # Keys of detectron2 that would do nothing here.
    "SOLVER.REFERENCE_WORLD_SIZE": ("0: set SOLVER.IMS_PER_BATCH and BASE_LR for your number of GPUs", _is(0)),
    "TEST.AUG.ENABLED": ("False, because evaluations here have no test-time augmentation", _is(False)),
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": ("255, the number of pixels without a class in all label maps", _is(255)),
    "SOLVER.ACCUMULATION_STEPS": _at_least(1),
    "SOLVER.METRICS_PERIOD": _at_least(1),
    "SOLVER.MAX_SKIPPED_STEPS": _at_least(1),
    "SOLVER.CHECKPOINT_PERIOD": _at_least(1),
    "SOLVER.CHECKPOINT_MINUTES": _at_least(0),
    "SOLVER.CHECKPOINT_KEEP_LAST": _at_least(0),
    "SOLVER.CHECKPOINT_KEEP_EVERY": _at_least(0),
    "TEST.DETECTIONS_PER_IMAGE": _at_least(1),
    "TEST.PRECISE_BN.NUM_ITER": _at_least(1),
    "SEED": ("at most 4294967295, NumPy's largest", lambda value: value < 2**32),
    # timedelta holds about 10 ** 12 minutes; the milliseconds of gloo and NCCL hold fewer.
    "DISTRIBUTED.TIMEOUT_MINUTES": ("above 0, and at most a million", lambda value: 0 < value <= 1e6),
}
# Keys that an optimiser does not use; LARS never decays norms and biases.
UNUSED_BY = {
    "LARS": ("SOLVER.NESTEROV", "SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS"),
    "AdamW": ("SOLVER.NESTEROV",),
}
# Weights of the losses of a pre-training.
WEIGHTS = ("PIXEL_WEIGHT", "INSTANCE.WEIGHT", "DISTILL.WEIGHT", "VARIANCE_WEIGHT", "COVARIANCE_WEIGHT")
MAY_BE_EMPTY = ("SOLVER.STEPS",)
NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN", "LN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")  # of detectron2
_LATER_SCHEDULES = ("WarmupStepWithFixedGammaLR",) if "NUM_DECAYS" in get_cfg().SOLVER else ()  # after v0.6

CHOICES = {
    "MODEL.PIXPRO.METHOD": METHODS.keys(),  # with those that a user's own file adds later
    "MODEL.PIXPRO.HEAD": ("none", *HEADS),
    "MODEL.PIXPRO.DISTANCE_UNITS": ("normalized", "pixel"),
    "MODEL.PIXPRO.MEAN_OVER": ("all", "matched"),
    "MODEL.PIXPRO.FLOW.CONSISTENCY": tuple(CONSISTENCY),
    "MODEL.PIXPRO.DISTILL.VIEW": ("other", "same"),
    "MODEL.PIXPRO.DISTILL.LOSS": tuple(LOSSES),
    "MODEL.PIXPRO.INSTANCE.LOSS": ("byol", "infonce"),
    "MODEL.TIMM.NORM": (KEPT, *CLASSES),
    "INPUT.PIXPRO.REDRAW": ("both", "second"),
    "INPUT.PIXPRO.INTERPOLATION": tuple(INTERPOLATIONS),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.AUG_DEVICE": ("cpu", "model"),
    "SOLVER.OPTIMIZER": ("SGD", "LARS", "AdamW"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolyLR", *_LATER_SCHEDULES),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm"),
    "SOLVER.LR_SCALING": ("none", "linear", "sqrt"),
    "SOLVER.AMP.DTYPE": ("bfloat16", "float16"),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
}
