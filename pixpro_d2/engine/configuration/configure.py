"""Turn command-line arguments into a complete, checked and frozen config."""

import logging
import os
from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ...checkpoint.resume import candidates
from ...config import default_config, is_pretraining
from ...config_files import config_path
from ...data.datasets.catalog import ensure_registered
from ...data.io.reader import restrict_pillow
from ...data.io.workers import warn_of_many_workers
from ...data.pretrain.sampler import batches_per_epoch
from ...data.pretrain.samples import epoch_length
from ...launch_arguments import command_of
from ...monitoring.run_record import record_start
from ...solver.schedule import scaled_lr
from ...starts import merge_start
from ...utils.errors import UsageError
from ...utils.files import read_json, write_file, write_json
from ...utils.machine import describe_machine
from ...utils.nested import flatten, set_value, value_of
from ..checks import (
    check_batch,
    check_fresh_start,
    check_image_format,
    check_output_dir,
    check_resnet,
    check_task,
    check_wandb,
)
from ..terminal import log_details, set_up_logging
from .class_count import resolve_class_count
from .config_checks import check_used, check_values
from .merging import later_keys_known, merge_file
from .name_lists import single_names_accepted
from .options import literal, merge_options
from .registered import check_registered
from .resumed_run import check_changes, former_values, keep_start, warn_of_another_model

SEED_FILE = "seed.json"
AUTO = "auto"
# Keys of paths; no shell expands a ~ in a file.
PATHS = (
    "MODEL.WEIGHTS",
    "MODEL.PIXPRO.FLOW.FILES",
    "MODEL.PIXPRO.DISTILL.TEACHER",
    "MODEL.PIXPRO.DISTILL.WEIGHTS",
    "OUTPUT_DIR",
)


def setup(args: Namespace) -> CfgNode:
    """Build and resolve the config of ``args``, and set up logging and seeds.

    The resolved config counts iterations instead of epochs and has the effective learning rate. The number of classes
    is that of the data set. SyncBN has become a norm that this machine can run. The config is also written to
    OUTPUT_DIR/config.yaml; an evaluation keeps the config.yaml of a training there.

    Args:
        args: arguments of detectron2's default parser, or of :func:`pixpro_d2.launch_arguments.argument_parser`.

    Raises:
        UsageError: for a mistake in the config.
    """
    cfg = command_config(args)
    restrict_pillow(cfg.DATALOADER.MAX_IMAGE_PIXELS)
    check_wandb(cfg, args)
    _register_data(cfg, args)
    data_key = "DATASETS.TEST" if args.eval_only else "DATASETS.TRAIN"
    classes = resolve_class_count(cfg, args.config_file, args.opts[::2], data_key)
    resolve_device(cfg)
    resolve_sync_bn(cfg)
    check_image_format(cfg)
    check_registered(cfg)
    check_resnet(cfg)
    if not args.eval_only:
        check_batch(cfg)
    check_output_dir(cfg)
    check_task(cfg, args)
    check_fresh_start(cfg, args)
    if not args.eval_only and not candidates(cfg.OUTPUT_DIR):  # a former version has accepted the keys of its runs
        check_used(cfg)
    set_up_logging(cfg.OUTPUT_DIR)
    former = former_values(cfg, args)
    keep_start(cfg, former, args)
    resolve_seed(cfg, args, former)
    schedule = "" if args.eval_only else resolve_schedule(cfg, args.opts[::2])
    cfg.freeze()
    default = load_config("", ["MODEL.DEVICE", cfg.MODEL.DEVICE])
    resolve_sync_bn(default)
    check_changes(cfg, default, former, args)
    warn_of_another_model(cfg, default, args)
    warn_of_many_workers(cfg.DATALOADER.NUM_WORKERS)
    command = command_of(args)
    log_details(cfg, command)
    if comm.is_main_process():
        record_start(Path(cfg.OUTPUT_DIR), command, describe_machine(torch.device(cfg.MODEL.DEVICE)))
        _write_config(cfg, args)
        if not args.eval_only:
            write_json(os.path.join(cfg.OUTPUT_DIR, SEED_FILE), {"seed": cfg.SEED})
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only
    if classes:
        logging.getLogger(__name__).info(classes)
    if schedule:
        logging.getLogger(__name__).info(f"{schedule} Seed {cfg.SEED}. Device {cfg.MODEL.DEVICE}.")
    return cfg


def _register_data(cfg: CfgNode, args: Namespace) -> None:
    """Register the data sets; those of the training need not be there for an evaluation, except of neighbours."""
    ensure_registered(cfg.DATASETS.TEST)
    for name in cfg.DATASETS.TRAIN:
        try:
            ensure_registered([name])
        except UsageError:
            if not args.eval_only or cfg.MODEL.META_ARCHITECTURE == "KNNClassifier":
                raise


def _write_config(cfg: CfgNode, args: Namespace) -> None:
    """Write OUTPUT_DIR/config.yaml; an evaluation leaves the config.yaml of a training in its place."""
    path, logger = Path(cfg.OUTPUT_DIR, "config.yaml"), logging.getLogger(__name__)
    is_of_training = (path.parent / SEED_FILE).is_file() or candidates(cfg.OUTPUT_DIR)
    if args.eval_only and path.is_file() and is_of_training:
        logger.info(f"{path} stays that of the training in this folder.")
        return
    write_file(str(path), lambda partial: Path(partial).write_text(cfg.dump(), encoding="utf-8"))
    if not getattr(args, "dry_run", False):  # detectron2's parser does not have it
        logger.info(f"The whole config is in {path}, all details are in log.txt beside it.")


def command_config(args: Namespace) -> CfgNode:
    """Return the config that :func:`load_config` builds from the arguments of a command line."""
    return load_config(args.config_file, args.opts, getattr(args, "init", ""))  # detectron2's parser does not have it


def load_config(config_file: str, opts: Sequence[Any], init: str = "") -> CfgNode:
    """Return detectron2's config, with the keys of its DeepLab project and ours, and with the values of a command.

    MODEL.DEVICE is ``auto`` by default, and becomes ``cuda`` if there is a GPU, else ``cpu``.

    Args:
        config_file: a YAML file, or the name of a config of the package; "" for the defaults.
        opts: KEY, VALUE, ..., which are merged last.
        init: a start (``--init``), merged after the file and before ``opts``; "" for the start in the file.

    Raises:
        UsageError: for a mistake in one of the arguments.
    """
    cfg = default_config()
    cfg.MODEL.DEVICE = AUTO
    config_file = config_path(config_file) if config_file else ""
    with later_keys_known(cfg):
        if config_file:
            merge_file(cfg, config_file)
            if init:
                _merge_start(cfg, init, config_file)
            _check_one_unit(cfg, config_file)
        with single_names_accepted(cfg):
            merge_options(cfg, opts)
    if cfg.MODEL.LOAD_PROPOSALS:
        raise UsageError("MODEL.LOAD_PROPOSALS is not supported: such files are pickles, which can run code.")
    for key in PATHS:
        set_value(cfg, key, _path_as_text(os.path.expanduser(value_of(cfg, key))))
    _count_in_iterations(cfg, opts[::2])
    if cfg.MODEL.DEVICE == AUTO:
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    check_values(cfg)
    return cfg


def _path_as_text(path: str) -> str:
    """Return the path, with "./" before a name such as 2026: yacs would read it from config.yaml as a number."""
    return path if isinstance(literal(path), str) else os.path.join(".", path)


_LENGTH_KEYS = (("SOLVER.MAX_ITER", "SOLVER.MAX_EPOCHS"), ("SOLVER.WARMUP_ITERS", "SOLVER.WARMUP_EPOCHS"))


def _merge_start(cfg: CfgNode, name: str, config_file: str) -> None:
    try:
        merge_start(cfg, name)
    except UsageError as error:
        raise UsageError(f"Config {config_file}: {error}") from error


def _check_one_unit(cfg: CfgNode, path: str) -> None:
    """Check that a file does not set a length both in iterations and in epochs."""
    for iterations, epochs in _LENGTH_KEYS:
        count = value_of(cfg, iterations)
        if value_of(cfg, epochs) > 0 and count != value_of(get_cfg(), iterations):
            raise UsageError(
                f"Config {path}: {iterations} {count} and {epochs} {value_of(cfg, epochs)} are both set: remove one "
                f"of them, or set {epochs} 0 for iterations to count."
            )


def _count_in_iterations(cfg: CfgNode, keys: Collection[str]) -> None:
    """Set the config file's epochs to 0 if the command line's ``keys`` give the length in iterations, in place.

    If they give no warm-up, a warm-up in epochs keeps its share of the run, and a warm-up in iterations is cut to a
    tenth of the run. Either could fill a short run otherwise. :func:`resolve_schedule` cuts a warm-up likewise if the
    command line gives SOLVER.MAX_EPOCHS.
    """
    solver = cfg.SOLVER
    if "SOLVER.MAX_ITER" in keys and not _gives_warmup(keys):
        if solver.WARMUP_EPOCHS <= 0:
            cfg.merge_from_list(["SOLVER.WARMUP_ITERS", min(solver.WARMUP_ITERS, solver.MAX_ITER // 10)])
        elif solver.MAX_EPOCHS > 0:
            warmup = solver.MAX_ITER * solver.WARMUP_EPOCHS // solver.MAX_EPOCHS
            cfg.merge_from_list(["SOLVER.WARMUP_ITERS", warmup, "SOLVER.WARMUP_EPOCHS", 0])
    for iterations, epochs in _LENGTH_KEYS:
        if iterations not in keys or value_of(cfg, epochs) <= 0:
            continue
        if epochs in keys:
            raise UsageError(f"The options have both {iterations} and {epochs}: remove one of them.")
        cfg.merge_from_list([epochs, 0])


def _gives_warmup(keys: Collection[str]) -> bool:
    return not set(_LENGTH_KEYS[1]).isdisjoint(keys)


def resolve_device(cfg: CfgNode) -> None:
    """Check that MODEL.DEVICE exists.

    Raises:
        UsageError: otherwise.
    """
    name = cfg.MODEL.DEVICE
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError:
        kind, index = "", 0
    if kind not in ("cuda", "cpu"):
        raise UsageError(f"MODEL.DEVICE is '{name}'; it must be auto, cuda or cpu.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("MODEL.DEVICE is 'cuda', but PyTorch sees no GPU: leave MODEL.DEVICE out, or set it to cpu.")
    if kind == "cuda" and ":" in name and comm.get_world_size() > 1 and torch.cuda.device_count() > 1:
        raise UsageError(f"MODEL.DEVICE is '{name}', but each process needs a GPU of its own: set it to cuda.")
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise UsageError(
            f"MODEL.DEVICE is '{name}', but PyTorch numbers {torch.cuda.device_count()} GPUs from 0: name one of them."
        )


def resolve_sync_bn(cfg: CfgNode) -> None:
    """Replace SyncBN in every NORM key by a norm that this run can execute, in place.

    PyTorch's SyncBatchNorm needs CUDA. A single process uses BN. Several processes on the CPU use detectron2's
    NaiveSyncBN.
    """
    world_size = comm.get_world_size()
    if world_size > 1 and cfg.MODEL.DEVICE.startswith("cuda"):
        return
    replacement = "BN" if world_size == 1 else "naiveSyncBN"
    for key, value in flatten(cfg).items():
        if key.endswith(".NORM") and value == "SyncBN":
            set_value(cfg, key, replacement)


def resolve_seed(cfg: CfgNode, args: Namespace, former: Mapping[str, Any]) -> None:
    """Draw the seed of a new run that has none, in place; give a resumed run the seed that it started with.

    The seed decides the order of the data, all augmentation and the random numbers of the model. It is in
    OUTPUT_DIR/seed.json, because every command writes config.yaml again, an evaluation too. If a resumed run has no
    such file, its config.yaml has the seed.

    Args:
        cfg: config of the command.
        args: arguments of the command line.
        former: result of :func:`.resumed_run.former_values`.

    Raises:
        UsageError: if a resumed run has another seed, or its seed file is damaged.
    """
    if args.eval_only:
        return
    path = os.path.join(cfg.OUTPUT_DIR, SEED_FILE)
    # All use the seed that the first process has read.
    before = comm.all_gather(_seed_in(path) if args.resume else None)[0]
    if before is None and former.get("SEED", -1) >= 0:
        before = former["SEED"]
    if cfg.SEED < 0:
        cfg.SEED = comm.shared_random_seed() if before is None else before
    elif before not in (None, cfg.SEED) and candidates(cfg.OUTPUT_DIR):  # without a checkpoint, the run is new
        raise UsageError(
            f"SEED is {cfg.SEED}, but the run in {cfg.OUTPUT_DIR} started with {before}: resume with this seed, or "
            "start a new run in another OUTPUT_DIR."
        )


def _seed_in(path: str) -> int | None:
    """Return the seed that a file holds; None if there is no file."""
    if not os.path.exists(path):
        return None
    content = read_json(path)
    seed = content.get("seed") if isinstance(content, dict) else None
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f'{path} is damaged: write {{"seed": N}} into it, N being the seed in log.txt.')
    return seed


def resolve_schedule(cfg: CfgNode, keys: Collection[str] = ()) -> str:
    """Turn epochs into iterations and BASE_LR into the effective learning rate, in place.

    If the command line's ``keys`` give the epochs and no warm-up, the warm-up is at most a tenth of the run.

    Returns:
        A sentence with the result, for the log.

    Raises:
        UsageError: for epochs in a task that counts iterations, or a scaling without its reference.
    """
    solver = cfg.SOLVER
    batch = solver.IMS_PER_BATCH
    length = f"{solver.MAX_ITER} iterations"
    counts_images = is_pretraining(cfg) or cfg.MODEL.META_ARCHITECTURE == "LinearClassifier"
    if counts_images and (solver.MAX_EPOCHS > 0 or solver.WARMUP_EPOCHS > 0):
        num_images, unit = epoch_length(cfg), "runs of frames" if cfg.INPUT.PIXPRO.N_FRAMES else "images"
        per_epoch = batches_per_epoch(num_images, batch)
        if solver.MAX_EPOCHS > 0:
            solver.MAX_ITER = solver.MAX_EPOCHS * per_epoch
            length = f"{solver.MAX_ITER} iterations = {solver.MAX_EPOCHS} epochs of {num_images} {unit}"
        if solver.WARMUP_EPOCHS > 0:
            solver.WARMUP_ITERS = min(solver.WARMUP_EPOCHS * per_epoch, solver.MAX_ITER)
        if solver.MAX_EPOCHS > 0 and "SOLVER.MAX_EPOCHS" in keys and not _gives_warmup(keys):
            solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, solver.MAX_ITER // 10)
    elif solver.MAX_EPOCHS > 0 or solver.WARMUP_EPOCHS > 0:
        raise UsageError(
            "SOLVER.MAX_EPOCHS and WARMUP_EPOCHS are for pre-training and classification: set SOLVER.MAX_ITER here."
        )
    base_lr = solver.BASE_LR
    if solver.LR_SCALING != "none" and solver.LR_REFERENCE_BATCH == 0:
        raise UsageError(
            f"SOLVER.LR_SCALING {solver.LR_SCALING} needs the number of images that SOLVER.BASE_LR {base_lr:g} belongs "
            "to: set SOLVER.LR_REFERENCE_BATCH, usually to the config's SOLVER.IMS_PER_BATCH."
        )
    solver.BASE_LR = scaled_lr(base_lr, batch, solver.LR_REFERENCE_BATCH, solver.LR_SCALING)
    scaling = solver.LR_SCALING
    solver.MAX_EPOCHS, solver.WARMUP_EPOCHS, solver.LR_SCALING = 0, 0, "none"
    rule = "" if scaling == "none" else f" ({base_lr:g} at batch {solver.LR_REFERENCE_BATCH}, {scaling} scaling)"
    fills = ": it fills the run, so lower SOLVER.WARMUP_ITERS" if solver.WARMUP_ITERS >= solver.MAX_ITER else ""
    return (
        f"Schedule: {length}, of which {solver.WARMUP_ITERS} warm-up{fills}; batch {batch}; "
        f"effective learning rate {solver.BASE_LR:g}{rule}."
    )
