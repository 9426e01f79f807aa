"""Every number of the method and of the product's keys has a range, which is checked where a config is loaded."""

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import get_norm

import configs
from pixpro_d2.config import add_pixpro_config
from pixpro_d2.engine.acceleration import AMP_DTYPES
from pixpro_d2.engine.configuration.config_checks import CHOICES, NORMS, RANGES, check_used, check_values
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.modeling.heads.dense_head import HEADS
from pixpro_d2.modeling.pretrain.agreement import LOSSES
from pixpro_d2.modeling.pretrain.flow_points import CONSISTENCY
from pixpro_d2.modeling.pretrain.methods import METHODS
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import set_value, value_of

DETECTOR = str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml")
LARS = str(configs.CONFIGS / "pretrain/pixpro_c5_100ep.yaml")
QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")
# key -> values just outside of its range, then values at its ends
BOUNDS = {
    "MODEL.PIXPRO.POS_RATIO": ([0.0, -0.7], [1e-6]),
    "MODEL.PIXPRO.MOMENTUM": ([5.0, 1.0001, -0.1], [0.0, 1.0]),
    "MODEL.PIXPRO.TEMPERATURE": ([-0.3, 0.0], [0.01]),
    "MODEL.PIXPRO.PIXEL_WEIGHT": ([-1.0], [0.0]),
    "MODEL.PIXPRO.VARIANCE_WEIGHT": ([-0.1], [0.0]),
    "MODEL.PIXPRO.COVARIANCE_WEIGHT": ([-0.1], [0.0]),
    "MODEL.PIXPRO.COLLAPSE_STD": ([-0.1], [0.0]),
    "MODEL.PIXPRO.PPM.GAMMA": ([0.0, -2.0], [0.5]),
    "MODEL.PIXPRO.PPM.NUM_LAYERS": ([3, -1], [0, 2]),
    "MODEL.PIXPRO.PROJECTOR.OUT_DIM": ([0], [1]),
    "MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM": ([0, -4], [1]),
    "MODEL.PIXPRO.DISTILL.WEIGHT": ([-0.1], [0.0]),
    "MODEL.PIXPRO.INSTANCE.WEIGHT": ([-1.0], [0.0]),
    "MODEL.PIXPRO.INSTANCE.TEMPERATURE": ([0.0], [0.1]),
    "MODEL.PIXPRO.DENSECL.QUEUE_SIZE": ([0], [1]),
    "MODEL.PIXPRO.DENSECL.WEIGHT": ([-0.5], [0.0]),
    "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES": ([1], [2]),
    "MODEL.PIXPRO.SLOTCON.TARGET_TEMPERATURE": ([0.0], [0.01]),
    "MODEL.PIXPRO.SLOTCON.ONLINE_TEMPERATURE": ([-0.1, 0.0], [0.01]),
    "MODEL.PIXPRO.SLOTCON.CENTER_MOMENTUM": ([-0.1, 1.1], [0.0, 1.0]),
    "MODEL.PIXPRO.SLOTCON.GROUP_WEIGHT": ([-0.1, 1.1], [0.0, 1.0]),
    "MODEL.PIXPRO.SLOTCON.MIN_SHARE": ([-0.1, 1.1], [0.0, 1.0]),
    "MODEL.PIXPRO.FLOW.SCALE": ([0], [1]),
    "MODEL.PIXPRO.FLOW.ALPHA1": ([-0.01], [0.0]),
    "MODEL.PIXPRO.FLOW.ALPHA2": ([0.0], [0.1]),
    "MODEL.CLASSIFIER.NEIGHBORS": ([[], [20, 0]], [[1]]),
    "INPUT.PIXPRO.MIN_SCALE": ([0.0, 1.1], [1.0]),
    "INPUT.PIXPRO.MAX_SCALE": ([0.1, 1.1], [1.0]),  # quickstart's MIN_SCALE is 0.2
    "INPUT.PIXPRO.MIN_OVERLAP": ([-0.1, 1.0], [0.0, 0.99]),
    "INPUT.PIXPRO.N_FRAMES": ([-1], [0]),
    "INPUT.PIXPRO.STARTS_PER_VIDEO": ([0], [1]),
    "INPUT.PIXPRO.SWAP_P": ([-0.1, 1.5], [0.0, 1.0]),
    "INPUT.PIXPRO.CROP_SIZE": ([0, -224], []),
    "INPUT.CLASSIFICATION.CROP_SIZE": ([0, 257], [256]),
    "DATALOADER.NUM_WORKERS": ([-1, 500], [0, 256]),
    "DATALOADER.MAX_UNREADABLE": ([-0.1, 1.1], [0.0, 1.0]),
    "DATALOADER.RETRY_SECONDS": ([-1.0], [0.0]),
    "DATALOADER.MAX_IMAGE_PIXELS": ([0, -3], [1]),
    "SOLVER.ACCUMULATION_STEPS": ([0], [1]),
    "SOLVER.METRICS_PERIOD": ([0], [1]),
    "SOLVER.LR_REFERENCE_BATCH": ([-8], [0, 1]),
    "SOLVER.MAX_ITER": ([0], [1]),
    "SOLVER.MAX_EPOCHS": ([-1], [0]),
    "SOLVER.CHECKPOINT_PERIOD": ([0], [1]),
    "SOLVER.CHECKPOINT_MINUTES": ([-1.0], [0.0]),
    "SOLVER.CHECKPOINT_KEEP_LAST": ([-1], [0]),
    "SOLVER.BASE_LR": ([-0.1, 0.0], [1e-6]),
    "SOLVER.STEPS": ([(-1,), (0, 5)], [(), (1,)]),
    "SOLVER.GAMMA": ([-1.0, 0.0], [0.1]),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ([-1.0, 0.0], [0.1]),
    "MODEL.TIMM.OUTPUT_STRIDE": ([0, 4, 24, 64], [8, 16, 32]),
    "MODEL.BACKBONE.FREEZE_AT": ([-1, 6], [0, 5]),
    "MODEL.FPN.OUT_CHANNELS": ([0], [1]),
    "MODEL.ROI_HEADS.NUM_CLASSES": ([0, -1], [1]),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": ([-0.1, 2.0], [0.0, 1.0]),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": ([-1.0], [0.5]),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": ([0.0, 3.0], [0.25]),
    "MODEL.ROI_BOX_HEAD.FC_DIM": ([0], [1]),
    "INPUT.MIN_SIZE_TEST": ([-10], [0]),
    "INPUT.MAX_SIZE_TEST": ([0], [1]),
    "INPUT.CROP.SIZE": ([[0.0, 0.0]], [[0.5, 1.0]]),
    "TEST.DETECTIONS_PER_IMAGE": ([0, -5], [1]),
    "TEST.AUG.ENABLED": ([True], [False]),
    "SOLVER.REFERENCE_WORLD_SIZE": ([8], [0]),
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": ([0, -1], [255]),
    "SEED": ([99999999999999, 2**32], [-1, 2**32 - 1]),
    "DISTRIBUTED.TIMEOUT_MINUTES": ([0.0, -1.0, 1e30], [0.5]),
}


def _with(key, value):
    cfg = load_config(QUICKSTART, [])
    set_value(cfg, key, value)
    return cfg


@pytest.mark.parametrize("key", BOUNDS)
def test_ranges(key):
    outside, inside = BOUNDS[key]
    for value in inside:
        check_values(_with(key, value))
    for value in outside:
        with pytest.raises(UsageError, match=rf"^{key} is .*; it must (be|list) .*\.$"):
            check_values(_with(key, value))


def test_a_range_of_sizes_has_two_ends():
    fcn = str(configs.CONFIGS / "voc/fcn_R_50_30k.yaml")
    load_config(fcn, ["INPUT.MIN_SIZE_TRAIN", "(64, 64)"])
    for sizes in ("(64,)", "(64, 80, 96)"):
        with pytest.raises(UsageError, match=r"^INPUT.MIN_SIZE_TRAIN is \(64,.* a smallest and a largest size: repeat"):
            load_config(fcn, ["INPUT.MIN_SIZE_TRAIN", sizes])
    load_config(fcn, ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice"])


@pytest.mark.parametrize(
    "mean, std, message",
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], r"^MODEL.PIXEL_STD is \[0.229, .* multiply .* by 255\.$"),
        ([123.0, 116.0, 103.0], [58.0], "^MODEL.PIXEL_STD has 1 values and MODEL.PIXEL_MEAN 3: give both one value a"),
    ],
)
def test_mean_and_deviation_of_pixels(mean, std, message):
    with pytest.raises(UsageError, match=message):
        load_config(QUICKSTART, ["MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std])


@pytest.mark.parametrize("key", ["MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.PIXPRO.NORM", "MODEL.FCOS.NORM"])
def test_norms_are_those_of_detectron2(key):
    for name in NORMS:
        assert name in ("", "LN") or get_norm(name, 32) is not None  # LN is of later versions
    with pytest.raises(UsageError, match=f"^{key} is 'bn'; it must be \"\", BN, SyncBN"):
        load_config(QUICKSTART, [key, "bn"])


def test_a_feature_is_named_once():
    with pytest.raises(UsageError, match=r"^MODEL.PIXPRO.IN_FEATURES is \['p3', 'p3'\]; it must name each"):
        load_config(QUICKSTART, ["MODEL.PIXPRO.IN_FEATURES", "('p3', 'p3')"])


def test_a_pretraining_has_a_loss():
    """quickstart has the variance and covariance terms."""
    nothing = ["MODEL.PIXPRO.VARIANCE_WEIGHT", 0.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.0]
    with pytest.raises(
        UsageError, match=r"^MODEL.PIXPRO.PIXEL_WEIGHT is 0, and no other loss has a weight: raise it, or"
    ):
        load_config(QUICKSTART, [*nothing, "MODEL.PIXPRO.PIXEL_WEIGHT", 0.0])
    for key in ("INSTANCE.WEIGHT", "DISTILL.WEIGHT", "COVARIANCE_WEIGHT"):
        load_config(QUICKSTART, [*nothing, "MODEL.PIXPRO.PIXEL_WEIGHT", 0.0, f"MODEL.PIXPRO.{key}", 1.0])


@pytest.mark.parametrize(
    "config, opts, message",
    [
        (DETECTOR, ("MODEL.PIXPRO.COMPILE", True), "PIXPRO.COMPILE is True, .*uses this key: remove it"),
        (DETECTOR, ("MODEL.PIXPRO.RECOMPUTE", True), "PIXPRO.RECOMPUTE is True, but only pre-training"),
        (LARS, ("SOLVER.NESTEROV", True), "NESTEROV is True, but SOLVER.OPTIMIZER LARS .*: remove it, or choose SGD"),
        (LARS, ("SOLVER.WEIGHT_DECAY_NORM", 0.1), "WEIGHT_DECAY_NORM is 0.1, but SOLVER.OPTIMIZER LARS"),
        (LARS, ("SOLVER.WEIGHT_DECAY_BIAS", 0.1), "WEIGHT_DECAY_BIAS is 0.1, but SOLVER.OPTIMIZER LARS"),
        (LARS, ("SOLVER.OPTIMIZER", "AdamW", "SOLVER.NESTEROV", True), "NESTEROV is True, but SOLVER.OPTIMIZER AdamW"),
    ],
)
def test_a_value_that_would_do_nothing(config, opts, message):
    check_used(load_config(config, []))
    with pytest.raises(UsageError, match=message):
        check_used(load_config(config, opts))


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.PIXPRO.COMPILE", True),
        ("MODEL.PIXPRO.RECOMPUTE", True),
        ("SOLVER.WEIGHT_DECAY_BIAS", 0.0),  # as LARS has it
        ("SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", True, "SOLVER.WEIGHT_DECAY_NORM", 0.1),
    ],
)
def test_values_that_do_something(opts):
    check_used(load_config(LARS, opts))


def test_an_infinite_number_is_told_so():
    with pytest.raises(UsageError, match=r"^SOLVER.BASE_LR is inf; it must be finite and above 0\.$"):
        load_config(QUICKSTART, ["SOLVER.BASE_LR", "1e999"])


FLOATS = [key for key in RANGES if isinstance(value_of(load_config("", []), key), float)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_is_infinite_or_none(value):
    for key in FLOATS:
        with pytest.raises(UsageError, match=f"^{key} is "):
            check_values(_with(key, value))


def _numbers(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _numbers(value, f"{prefix}{name}.")
        elif type(value) in (int, float) or (
            isinstance(value, (list, tuple)) and type([*value, ""][0]) in (int, float)
        ):
            yield f"{prefix}{name}"


def test_every_number_of_the_product_has_a_range():
    ours, theirs = get_cfg(), set(_numbers(get_cfg()))
    add_pixpro_config(ours)
    new = set(_numbers(ours)) - theirs
    assert len(new) > 40 and new <= RANGES.keys()


def test_choices_are_those_that_are_there():
    assert set(CHOICES["MODEL.PIXPRO.HEAD"]) == {"none", *HEADS}
    assert set(CHOICES["MODEL.PIXPRO.FLOW.CONSISTENCY"]) == set(CONSISTENCY)
    assert set(CHOICES["MODEL.PIXPRO.DISTILL.LOSS"]) == set(LOSSES)
    assert set(CHOICES["SOLVER.AMP.DTYPE"]) == set(AMP_DTYPES)


@pytest.mark.parametrize("key", CHOICES)
def test_choices(key):
    with pytest.raises(UsageError, match=f"^{key} is 'Adam'; it must be {next(iter(CHOICES[key]))}"):
        load_config(QUICKSTART, [key, "Adam"])


def test_a_mistake_in_a_file_is_found_too(tmp_path):
    (tmp_path / "c.yaml").write_text("MODEL:\n  PIXPRO:\n    POS_RATIO: 0.0\n")
    with pytest.raises(UsageError, match=r"^MODEL.PIXPRO.POS_RATIO is 0.0; it must be above 0\.$"):
        load_config(str(tmp_path / "c.yaml"), [])


def test_a_method_that_a_user_adds(monkeypatch):
    """Its file may import the package's ``run`` before it adds the method."""
    with pytest.raises(UsageError, match="METHOD is 'own'; it must be pixpro, "):
        load_config(QUICKSTART, ["MODEL.PIXPRO.METHOD", "own"])
    monkeypatch.setitem(METHODS, "own", METHODS["pixpro"])
    load_config(QUICKSTART, ["MODEL.PIXPRO.METHOD", "own"])
