"""Check, before a run, the environment and the keys that need each other."""

import os
import tempfile
from argparse import Namespace
from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils import comm

from ..checkpoint.resume import candidates
from ..config import is_pretraining
from ..utils.errors import UsageError, check_choice


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
