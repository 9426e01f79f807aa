"""Compare a resumed run, or an evaluation, with the config.yaml of the run so far."""

import fnmatch
import logging
import os
from argparse import Namespace
from collections.abc import Collection, Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from ...checkpoint.resume import candidates
from ...starts import KEYS
from ...utils.errors import UsageError
from ...utils.files import read_yaml
from ...utils.nested import flatten, set_value
from ...weights_files import weights_path

logger = logging.getLogger(__name__)

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
    """Compare the config of a resumed run with its config.yaml, and warn of each difference and each unknown key.

    Args:
        cfg: config of the command, as resolved as the file.
        default: default values, as resolved as ``cfg``, for keys that a file of another version lacks.
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
    known = _flat(cfg)
    for key, value in ({} if args.eval_only else _flat(former)).items():
        if key not in known:
            logger.warning(f"The resumed run had {key} {value!r}, but this version has no such key.")


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
