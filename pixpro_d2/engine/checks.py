"""Check, before a run, the environment, keys that need each other, and the keys that a resumed run changes."""

import contextlib
import fnmatch
import logging
import os
import tempfile
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils import comm

from ..checkpoint.resume import candidates
from ..config import is_pretraining
from ..starts import KEYS
from ..utils.errors import UsageError, check_choice
from ..utils.files import read_yaml
from ..utils.nested import flatten, place_of, set_value
from ..weights_files import weights_path

logger = logging.getLogger(__name__)


def check_output_dir(cfg: CfgNode) -> None:
    """Make the folder OUTPUT_DIR, and check that files can be written there."""
    folder = cfg.OUTPUT_DIR
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte
        raise UsageError(f"OUTPUT_DIR '{folder}' cannot be written to ({error}): choose another folder.") from error


def check_fresh_start(cfg: CfgNode, args: Namespace) -> None:
    """Check that the folder of a new run has no checkpoints of another run."""
    found = [] if args.resume or args.eval_only else candidates(cfg.OUTPUT_DIR)
    if found:
        raise UsageError(
            f"OUTPUT_DIR '{cfg.OUTPUT_DIR}' holds the checkpoint {found[0]} of a run: add --resume to resume the run, "
            "or choose another folder for a new run."
        )


def check_image_format(cfg: CfgNode) -> None:
    """Check that INPUT.FORMAT has as many channels as MODEL.PIXEL_MEAN has values."""
    channels = {"RGB": 3, "BGR": 3, "L": 1}
    if channels.get(cfg.INPUT.FORMAT) != len(cfg.MODEL.PIXEL_MEAN):
        raise UsageError(
            f"INPUT.FORMAT '{cfg.INPUT.FORMAT}' does not go with the {len(cfg.MODEL.PIXEL_MEAN)} values of "
            "MODEL.PIXEL_MEAN: use RGB or BGR with 3, L with 1."
        )


def check_resnet(cfg: CfgNode) -> None:
    """Check that detectron2 can build the ResNet of MODEL.RESNETS; detectron2 itself only has assertions."""
    resnets = cfg.MODEL.RESNETS
    if "resnet" not in cfg.MODEL.BACKBONE.NAME:
        return
    shallow = () if "deeplab" in cfg.MODEL.BACKBONE.NAME else (18, 34)
    check_choice("MODEL.RESNETS.DEPTH", resnets.DEPTH, (*shallow, 50, 101, 152))
    needed = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1, "DEFORM_ON_PER_STAGE": [False] * 4}
    wrong = [f"MODEL.RESNETS.{key} {value}" for key, value in needed.items() if resnets[key] != value]
    if resnets.DEPTH in shallow and wrong:
        raise UsageError(f"MODEL.RESNETS.DEPTH {resnets.DEPTH} needs {' and '.join(wrong)} beside it: set them too.")


def check_norm_inputs(cfg: CfgNode, shapes: Mapping[str, ShapeSpec]) -> None:
    """Check that no batch norm of a pre-training sees a single pixel of a single image, which has no deviation.

    Args:
        cfg: resolved config.
        shapes: features of the backbone, by name.
    """
    images = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size() // cfg.SOLVER.ACCUMULATION_STEPS
    crop = cfg.INPUT.PIXPRO.CROP_SIZE
    norms = [cfg.MODEL.PIXPRO.NORM]
    if "timm" in cfg.MODEL.BACKBONE.NAME:
        norms += [cfg.MODEL.TIMM.NORM]
    else:
        norms += [cfg.MODEL.RESNETS.NORM, cfg.MODEL.REGNETS.NORM]
    single = [name for name, shape in shapes.items() if crop <= shape.stride]
    if images == 1 and "BN" in norms and single:
        raise UsageError(
            f"Batch norm needs several values, but {', '.join(single)} has one pixel of one image in each process: "
            f"raise INPUT.PIXPRO.CROP_SIZE, which is {crop}, above {shapes[single[0]].stride}, or SOLVER.IMS_PER_BATCH."
        )


def check_prototypes(cfg: CfgNode, shapes: Mapping[str, ShapeSpec]) -> None:
    """Check that METHOD slotcon has no more prototypes than pixels of a batch to assign to them.

    Args:
        cfg: resolved config.
        shapes: features that carry a loss, by name.
    """
    if cfg.MODEL.PIXPRO.METHOD != "slotcon":
        return
    crop, prototypes = cfg.INPUT.PIXPRO.CROP_SIZE, cfg.MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES
    pixels = {level: cfg.SOLVER.IMS_PER_BATCH * (-(-crop // shapes[level].stride)) ** 2 for level in shapes}
    finest = max(pixels, key=pixels.__getitem__, default="")
    if finest and prototypes > pixels[finest]:
        raise UsageError(
            f"MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES is {prototypes}, but a batch has only {pixels[finest]} pixels at "
            f"{finest}: lower it, or raise SOLVER.IMS_PER_BATCH."
        )


def check_batch(cfg: CfgNode) -> None:
    """Check that SOLVER.IMS_PER_BATCH divides evenly among the processes, and their images among accumulation steps."""
    batch, world_size = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch % world_size:
        raise UsageError(f"SOLVER.IMS_PER_BATCH is {batch}; it must be a multiple of the {world_size} processes.")
    steps = cfg.SOLVER.ACCUMULATION_STEPS
    if batch // world_size % steps:
        raise UsageError(
            f"SOLVER.ACCUMULATION_STEPS is {steps}; it must divide the {batch // world_size} images of each process."
        )


def _has_weights(cfg: CfgNode, resume: bool) -> bool:
    """Return whether the model starts from weights of a file, or a resumed run from its checkpoint."""
    return bool(cfg.MODEL.WEIGHTS or (resume and candidates(cfg.OUTPUT_DIR)))


def check_task(cfg: CfgNode, args: Namespace) -> None:
    """Check that the task can be trained, and that frozen layers have trained weights."""
    if cfg.MODEL.META_ARCHITECTURE == "KNNClassifier" and not args.eval_only:
        raise UsageError("A kNN classifier is not trained: add --eval-only to the command.")
    if cfg.TEST.PRECISE_BN.ENABLED and is_pretraining(cfg):
        raise UsageError(
            "TEST.PRECISE_BN.ENABLED is for downstream tasks: pre-training uses each norm for two views; set it False."
        )
    has_weights = _has_weights(cfg, args.resume)
    freezes = cfg.MODEL.BACKBONE.FREEZE_AT > 0 and any(x in cfg.MODEL.BACKBONE.NAME for x in ("resnet", "regnet"))
    if freezes and not has_weights and not args.eval_only:
        raise UsageError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, which would keep the random weights of the "
            "first layers: set it to 0, or name weights by MODEL.WEIGHTS."
        )
    nodes = {"resnet": "RESNETS", "regnet": "REGNETS", "timm": "TIMM"}
    node = next((node for kind, node in nodes.items() if kind in cfg.MODEL.BACKBONE.NAME), "")
    frozen = bool(node) and cfg.MODEL[node].NORM == "FrozenBN"
    if frozen and is_pretraining(cfg) and not has_weights and not args.eval_only:
        raise UsageError(
            f"MODEL.{node}.NORM is FrozenBN, which normalises nothing after random layers: set it to SyncBN, or name "
            "weights by MODEL.WEIGHTS."
        )
    if not cfg.MODEL.BACKBONE.FROZEN:
        return
    if is_pretraining(cfg):
        raise UsageError("MODEL.BACKBONE.FROZEN is for downstream tasks: pre-training would have nothing to train.")
    if not has_weights:
        raise UsageError(
            "MODEL.BACKBONE.FROZEN would keep a random backbone: set MODEL.WEIGHTS to the checkpoint to evaluate."
        )


def check_evaluation(cfg: CfgNode, resume: bool) -> None:
    """Check that an evaluation has data sets and trained weights.

    A kNN classifier has no trained head: its random weights are a baseline.
    """
    if not cfg.DATASETS.TEST:
        raise UsageError(
            "The evaluation has no data set, because DATASETS.TEST is empty: set DATASETS.TEST, or add --test DATA to "
            "`pixpro-d2 evaluate`."
        )
    if not _has_weights(cfg, resume) and cfg.MODEL.META_ARCHITECTURE != "KNNClassifier":
        raise UsageError(
            "--eval-only would evaluate random weights: set MODEL.WEIGHTS to the checkpoint of a training, or add "
            "--resume to evaluate the last checkpoint in OUTPUT_DIR."
        )


def check_wandb(cfg: CfgNode, args: Namespace) -> None:
    """Check, in the main process of a training with WANDB.ENABLED, that W&B is installed and logged in."""
    if not cfg.WANDB.ENABLED or args.eval_only or not comm.is_main_process():
        return
    try:
        from wandb import errors, login  # names of the package: runs leave an importable folder `wandb` behind
    except ImportError as error:
        raise UsageError(
            "WANDB.ENABLED is True, but Weights & Biases is not installed: run `pip install wandb`."
        ) from error
    try:
        login()
    except errors.Error as error:
        raise UsageError(
            f"WANDB.ENABLED is True, but the W&B login failed ({error}): run `wandb login`, "
            "set WANDB_API_KEY, or set WANDB_MODE=offline to upload the run later."
        ) from error


# Keys of detectron2 after v0.6, with the default that keeps the behaviour of v0.6.
LATER_KEYS: dict[str, Any] = {
    "FLOAT32_PRECISION": "",
    "DATALOADER.REPEAT_SQRT": True,
    "SOLVER.NUM_DECAYS": 3,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 50,
}


@contextlib.contextmanager
def later_keys_known(cfg: CfgNode) -> Iterator[None]:
    """Accept the keys of ``LATER_KEYS`` in merges into ``cfg`` within this context; remove them at its end.

    Raises:
        UsageError: at the end of the context, if a removed key has another value than its default.
    """
    added = {}
    for key, default in LATER_KEYS.items():
        node, name = place_of(cfg, key)
        if name not in node:
            node[name] = added[key] = default
    yield
    for key, default in added.items():
        node, name = place_of(cfg, key)
        value = node.pop(name)
        if value != default:
            raise UsageError(
                f"{key} is {value!r}, a key of detectron2 after v0.6, but v0.6 is installed: take the key out, or "
                "install detectron2 from its main branch."
            )


# Keys that decide where a run computes, which files it writes and how it is tested, not what it learns.
FREE = (
    "VERSION", "OUTPUT_DIR", "VIS_PERIOD", "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "WANDB.*", "DISTRIBUTED.*",
    "TEST.*", "DATASETS.TEST", "DATASETS.PROPOSAL*_TEST", "INPUT.*_TEST", "MODEL.*_TEST",
    "DATALOADER.NUM_WORKERS", "DATALOADER.RETRY_SECONDS", "DATALOADER.MAX_UNREADABLE", "DATALOADER.MAX_IMAGE_PIXELS",
    "SOLVER.CHECKPOINT_*", "SOLVER.METRICS_PERIOD", "SOLVER.MAX_SKIPPED_STEPS", "SOLVER.AMP.*",
    "SOLVER.LR_REFERENCE_BATCH",  # BASE_LR in config.yaml is the effective learning rate
    "MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.ALLOW_PARTIAL_WEIGHTS", "MODEL.PIXPRO.COLLAPSE_STD",
    "MODEL.PIXPRO.CHANNELS_LAST", "MODEL.PIXPRO.COMPILE", "MODEL.PIXPRO.RECOMPUTE", "MODEL.PIXPRO.ZERO_INIT_RESIDUAL",
)  # fmt: skip
SHOWN = 6  # most differing keys in one message: a run of another task has dozens
# Names of one thing, by pattern of keys.
SAME = {
    "*.NORM": {"BN", "SyncBN", "naiveSyncBN"},  # the number of processes and the device choose the name
    "MODEL.SEM_SEG_HEAD.NAME": {"DeepLabV3Head", "AnySizeDeepLabV3Head"},  # equal where detectron2's head runs
}


def former_values(cfg: CfgNode, args: Namespace) -> dict[str, Any]:
    """Return the contents of OUTPUT_DIR/config.yaml for a resumed run; {} for another run.

    All processes must call this function. All get the contents that the first process reads before it writes the file
    again.
    """
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    resumed = args.resume and candidates(cfg.OUTPUT_DIR)
    return comm.all_gather((resumed and _read(path)) or {})[0]


def keep_start(cfg: CfgNode, former: Mapping[str, Any], args: Namespace) -> None:
    """Give a resumed run the start in its config.yaml, in place; KEY VALUE pairs of the command take precedence.

    Args:
        cfg: config of the command.
        former: result of :func:`former_values`.
        args: arguments of the command line.

    Raises:
        UsageError: if ``--init`` names another start.
    """
    before, now = _flat(former), _flat(cfg)
    other = [key for key in KEYS if key in before and before[key] != now[key] and key not in args.opts[::2]]
    described = "; ".join(f"{key} {before[key]!r}" for key in other)
    if getattr(args, "init", "") and other:
        raise UsageError(
            f"The run in {cfg.OUTPUT_DIR} has another start than --init {args.init} in its config.yaml ({described}): "
            "remove --init to resume the run, or start a new run in another OUTPUT_DIR."
        )
    for key in other:
        set_value(cfg, key, before[key])
    if other:
        logger.warning(f"The resumed run keeps the start in its config.yaml: {described}.")


def check_changes(cfg: CfgNode, default: CfgNode, former: Mapping[str, Any], args: Namespace) -> None:
    """Compare the config of a resumed run with its config.yaml, and warn of each difference.

    Args:
        cfg: config of the command, as resolved as the file.
        default: default values, for keys that a file of another version lacks.
        former: result of :func:`former_values`.
        args: arguments of the command line, with ``eval_only`` and ``allow_changes``.

    Raises:
        UsageError: if keys differ that change what the run learns, unless ``allow_changes``.
    """
    changes = {} if args.eval_only or not former else changed_values(cfg, default, former)
    described = {key: f"{key} was {before!r}, now {now!r}" for key, (before, now) in changes.items()}
    refused = [text for key, text in described.items() if not is_free(key, changes[key])]
    if refused and not getattr(args, "allow_changes", False):  # detectron2's parser does not have it
        shown = "; ".join(refused[:SHOWN])
        more = f"; and {len(refused) - SHOWN} further keys" if len(refused) > SHOWN else ""
        raise UsageError(
            f"The run in {cfg.OUTPUT_DIR} has other values in its config.yaml ({shown}{more}): resume with "
            "these, add --allow-changes to continue with the new values, or start a new run in another OUTPUT_DIR."
        )
    for text in described.values():
        logger.warning(f"The resumed run continues with another value: {text}.")


def warn_of_another_model(cfg: CfgNode, default: CfgNode, args: Namespace) -> None:
    """Warn, in an evaluation, of keys of the model with other values than in the training that wrote the weights.

    Args:
        cfg, default, args: as for :func:`check_changes`; the folder of the weights may have no config.yaml.
    """
    own = args.resume and candidates(cfg.OUTPUT_DIR)
    path = os.path.join(cfg.OUTPUT_DIR if own else os.path.dirname(weights_path(cfg.MODEL.WEIGHTS)), "config.yaml")
    if not (args.eval_only and comm.is_main_process() and (own or cfg.MODEL.WEIGHTS) and os.path.isfile(path)):
        return
    former = _read(path)
    if former is None or _flat(former).get("MODEL.META_ARCHITECTURE") != cfg.MODEL.META_ARCHITECTURE:
        return
    for key, (before, now) in changed_values(cfg, default, former).items():
        if key.startswith("MODEL.") and not is_free(key, (before, now)):
            values = f"{key} was {before!r}, now {now!r}"
            logger.warning(f"The evaluation has another model than the training of {path}: {values}.")


def is_free(key: str, values: Collection[Any]) -> bool:
    """Return whether a resumed run may change ``key`` from one of two ``values`` to the other."""
    if any(fnmatch.fnmatchcase(key, pattern) and names.issuperset(values) for pattern, names in SAME.items()):
        return True
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in FREE)


def changed_values(cfg: CfgNode, default: CfgNode, former: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values before and now of the keys of ``cfg`` that have another value in ``former``.

    Args:
        cfg: config of the present command.
        default: config with the same keys, for keys that ``former`` lacks.
        former: contents of a config.yaml.
    """
    before, now = {**_flat(default), **_flat(former)}, _flat(cfg)
    return {key: (before[key], value) for key, value in now.items() if before[key] != value}


def _flat(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested nodes by their whole keys, as YAML loads them."""
    return {key: _plain(value) for key, value in flatten(node).items()}


def _plain(value: Any) -> Any:
    """Return ``value`` with lists in place of tuples, as YAML loads it."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _read(path: str) -> dict[str, Any] | None:
    """Return the contents of a config.yaml; log a warning and return None for a missing or damaged file."""
    if not os.path.isfile(path):
        logger.warning(f"{path} is missing: the values of the command are not compared with those of the run so far.")
        return None
    content = read_yaml(path)
    if content is None:
        logger.warning(f"{path} is damaged: the values of the command are not compared with it.")
    return content
