"""What a resumed run may change: its config against that of the run so far."""

import fnmatch
import logging
import os
from argparse import Namespace

import yaml
from detectron2.config import CfgNode
from detectron2.utils import comm

from ..checkpoint.resume import candidates
from ..errors import UsageError

logger = logging.getLogger(__name__)

# Keys that decide where a run computes, what it writes and how it is tested, not what it learns.
FREE = (
    "VERSION", "OUTPUT_DIR", "VIS_PERIOD", "CUDNN_BENCHMARK", "FLOAT32_PRECISION", "WANDB.*", "DISTRIBUTED.*",
    "TEST.*", "DATASETS.TEST", "DATASETS.PROPOSAL*_TEST", "INPUT.*_TEST", "MODEL.*_TEST",
    "DATALOADER.NUM_WORKERS", "DATALOADER.RETRY_SECONDS", "DATALOADER.MAX_UNREADABLE", "DATALOADER.MAX_IMAGE_PIXELS",
    "SOLVER.CHECKPOINT_*", "SOLVER.METRICS_PERIOD", "SOLVER.MAX_SKIPPED_STEPS", "SOLVER.AMP.*",
    "MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.ALLOW_PARTIAL_WEIGHTS", "MODEL.PIXPRO.COLLAPSE_STD",
    "MODEL.PIXPRO.CHANNELS_LAST", "MODEL.PIXPRO.COMPILE", "MODEL.PIXPRO.RECOMPUTE",
)  # fmt: skip
SHOWN = 6  # keys that differ in one message: a run of another task has dozens
BATCH_NORMS = ("BN", "SyncBN", "naiveSyncBN")  # one and the same, as the processes of a run need it


def check_changes(cfg, default, args):
    """Compare the config of a run that is resumed with OUTPUT_DIR/config.yaml; all processes must call it.

    Args:
        cfg (CfgNode): resolved, as that file is.
        default (CfgNode): what a key has that the file, of another version, does not know.
        args (Namespace): of the command line, with ``resume``, ``eval_only`` and ``allow_changes``.

    Raises:
        UsageError: if keys differ that change what the run learns, unless ``allow_changes``.
    """
    path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
    compared = args.resume and not args.eval_only and candidates(cfg.OUTPUT_DIR)
    former = _read(path) if compared else None
    # All processes read the file before the main process writes it again.
    changes = comm.all_gather({} if former is None else changed_values(cfg, default, former))[0]
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
        cfg, default, args: as of :func:`check_changes`; the weights' folder may have no config.yaml.
    """
    own = args.resume and candidates(cfg.OUTPUT_DIR)
    path = os.path.join(cfg.OUTPUT_DIR if own else os.path.dirname(cfg.MODEL.WEIGHTS), "config.yaml")
    if not (args.eval_only and comm.is_main_process() and (own or cfg.MODEL.WEIGHTS) and os.path.isfile(path)):
        return
    former = _read(path)
    if former is None or _flat(former).get("MODEL.META_ARCHITECTURE") != cfg.MODEL.META_ARCHITECTURE:
        return
    for key, (before, now) in changed_values(cfg, default, former).items():
        if key.startswith("MODEL.") and not is_free(key, (before, now)):
            values = f"{key} was {before!r}, now {now!r}"
            logger.warning(f"The evaluation has another model than the training of {path}: {values}.")


def is_free(key, values):
    """Return whether a resumed run may change ``key`` from one of two ``values`` to the other."""
    if key.endswith(".NORM") and set(values) <= set(BATCH_NORMS):
        return True
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in FREE)


def changed_values(cfg, default, former):
    """The keys of ``cfg`` that have another value in ``former``.

    Args:
        cfg, default (CfgNode): of the same keys; the latter stands in for keys that ``former`` lacks.
        former (dict): as a config.yaml holds it.

    Returns:
        dict[str, tuple]: values before and now, by key.
    """
    before, now = {**_flat(default), **_flat(former)}, _flat(cfg)
    return {key: (before[key], value) for key, value in now.items() if before[key] != value}


def _flat(node, prefix=""):
    flat = {}
    for name, value in node.items():
        if isinstance(value, (dict, CfgNode)):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = _plain(value)
    return flat


def _plain(value):
    """As YAML gives it back, which knows no tuples."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _read(path):
    """Contents of a config.yaml; None, with a warning, for a missing or damaged file."""
    if not os.path.isfile(path):
        logger.warning(f"{path} is missing: the values of the command are not compared with those of the run so far.")
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (UnicodeDecodeError, yaml.YAMLError):
        content = None
    if isinstance(content, dict):
        return content
    logger.warning(f"{path} is damaged: the values of the command are not compared with it.")
    return None
