"""Small configs for the tests."""

from pathlib import Path

from pixpro_d2.engine.configuration.configure import load_config, resolve_sync_bn

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
TINY = [
    "MODEL.DEVICE", "cpu",
    "MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM", 32,
    "MODEL.PIXPRO.PROJECTOR.OUT_DIM", 16,
    "MODEL.FPN.OUT_CHANNELS", 32,
    "INPUT.PIXPRO.CROP_SIZE", 64,
    "DATALOADER.NUM_WORKERS", 0,
    "SOLVER.IMS_PER_BATCH", 4,
    "SOLVER.MAX_EPOCHS", 0,
    "SOLVER.WARMUP_EPOCHS", 0,
    "SOLVER.WARMUP_ITERS", 1,
    "SOLVER.MAX_ITER", 4,
    "MODEL.PIXPRO.VARIANCE_WEIGHT", 0.0,
    "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.0,
    "SOLVER.AMP.ENABLED", False,  # the same numbers on processors with and without bfloat16
    "SEED", 1,
]  # fmt: skip
# ResNet-50 with an eighth of the channels: all its layers, a fiftieth of its work; the pyramid's heads have 32 groups.
NARROW = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP", 8,
    "MODEL.FPN.OUT_CHANNELS", 64,
]  # fmt: skip
C5 = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"]]
C5 += ["MODEL.PIXPRO.IN_FEATURES", ["res5"]]
REGNET_FPN = ["MODEL.BACKBONE.NAME", "build_regnet_fpn_backbone", "MODEL.REGNETS.OUT_FEATURES", ["s2", "s3", "s4"]]
REGNET_FPN += ["MODEL.FPN.IN_FEATURES", ["s2", "s3", "s4"]]
TINY_DETECTOR = [
    "MODEL.DEVICE", "cpu",
    "MODEL.FPN.OUT_CHANNELS", 32,
    "DATALOADER.NUM_WORKERS", 0,
    "SOLVER.IMS_PER_BATCH", 2,
    "SOLVER.MAX_ITER", 2,
    "SOLVER.STEPS", (),
    "SEED", 1,
]  # fmt: skip


def tiny(*opts, config="pretrain/quickstart.yaml"):
    """A config made small, with ``opts`` (KEY, VALUE, ...) on top and SyncBN resolved."""
    base = TINY if config.startswith("pretrain") else TINY_DETECTOR
    cfg = load_config(str(CONFIGS / config), [*base, *opts])
    resolve_sync_bn(cfg)
    return cfg
