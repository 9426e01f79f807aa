"""Plan a pre-training or a fine-tuning: turn the few arguments of a user into a command line of the launcher."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..checkpoint.convention import InputConvention
from ..checkpoint.export import architecture, backbone_of
from ..checkpoint.formats import recognise
from ..checkpoint.reading import read_checkpoint
from ..command_line import as_words
from ..config_files import config_path
from ..data.datasets.catalog import ensure_registered, load_dicts
from ..engine.configuration.configure import load_config
from ..engine.main import run
from ..monitoring.run_record import read_starts
from ..utils.archives import is_archive, title_of
from ..utils.errors import UsageError
from ..utils.files import read_yaml
from ..utils.nested import flatten
from ..weights_files import weights_path
from .machine import this_machine
from .recipe import VIDEO_EPOCHS, choose_batch, choose_iterations, choose_processes, choose_recipe, choose_workers

PLANNED = ("SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS")
FEW_IMAGES = 100  # pre-training on fewer images is pointed out
FEW_FRAMES = 5000  # the same for video: 384 frames harmed, 6144 did not (docs/study.md)

# Configs of a task for a ResNet-18 and for a ResNet-50.
CONFIGS: dict[str, tuple[str, str | None]] = {
    "detection": ("voc/faster_rcnn_R_18_FPN_small", "voc/faster_rcnn_R_50_FPN_24k"),
    "segmentation": ("semseg/fpn_R_18_small", "voc/fcn_R_50_30k"),
    "classification": ("classification/resnet_R_18_small", None),
}


@dataclass(frozen=True)
class Plan:
    """Describe a run to start.

    Attributes:
        words: arguments of the launcher.
        folder: OUTPUT_DIR.
        sentence: the choices and their reasons.
    """

    words: list[str]
    folder: Path
    sentence: str


def run_plan(plan: Plan) -> None:
    """Print the choices of a plan, and run it."""
    print(plan.sentence, flush=True)
    run(plan.words)


def plan_pretraining(
    data: str, out: str, recipe: str = "auto", opts: Sequence[str] = (), processes: int = 0, flags: Sequence[str] = ()
) -> Plan:
    """Choose recipe, device, batch, iterations and workers of a pre-training; ``opts`` override every choice.

    Args:
        data: name of a data set, such as ``images:DIR``.
        out: OUTPUT_DIR; "" for a folder in ``output`` with the name of the data.
        recipe: name of a config, or ``auto``; a resumed run keeps its recipe then.
        opts: KEY, VALUE, ...
        processes: number of processes; 0 for one on each GPU.
        flags: further options of the launcher, such as ``--resume``.

    Raises:
        UsageError: for data or options that cannot be used.
    """
    given = _pairs(opts)
    ensure_registered([data])
    dicts = load_dicts(data)
    count, is_video = len(dicts), "num_frames" in dicts[0]
    machine = this_machine(given.get("MODEL.DEVICE", ""), processes)
    folder = Path(out or given.get("OUTPUT_DIR", "") or Path("output", _name_of(data))).expanduser()
    former_recipe = _former_recipe(folder) if recipe == "auto" and "--resume" in flags else ""
    if recipe != "auto":
        config, why = recipe, "you named it"
    elif former_recipe:
        config, why = former_recipe, "the run started with it"
    else:
        config, why = choose_recipe(count, is_video, machine)
    cfg = load_config(config, list(opts))
    batch = cfg.SOLVER.IMS_PER_BATCH
    if "SOLVER.IMS_PER_BATCH" not in given:
        batch = choose_batch(batch, 2**30 if is_video else count, cfg.INPUT.PIXPRO.CROP_SIZE, machine)
    chosen = {
        "MODEL.DEVICE": machine.device,
        "SOLVER.IMS_PER_BATCH": batch,
        "DATALOADER.NUM_WORKERS": choose_workers(cfg.DATALOADER.NUM_WORKERS, machine),
    }
    length = _length(cfg)
    # The recipe for videos is for a first try, with a few hundred iterations.
    epochs = VIDEO_EPOCHS if is_video and recipe == "auto" else cfg.SOLVER.MAX_EPOCHS
    if epochs > 0 and not {"SOLVER.MAX_ITER", "SOLVER.MAX_EPOCHS"} & set(given):
        samples = count * cfg.INPUT.PIXPRO.STARTS_PER_VIDEO if is_video else count
        iterations = choose_iterations(epochs, samples, batch, machine.device)
        chosen["SOLVER.MAX_ITER"] = iterations  # a warm-up in epochs keeps its share of the run
        if epochs != cfg.SOLVER.MAX_EPOCHS and not {"SOLVER.WARMUP_ITERS", "SOLVER.WARMUP_EPOCHS"} & set(given):
            chosen["SOLVER.WARMUP_ITERS"] = iterations // epochs
        length = f"{iterations} iterations"
    if "--resume" in flags and not {"SOLVER.MAX_EPOCHS", "SOLVER.WARMUP_EPOCHS"} & set(given):
        former = {key: value for key, value in _former_plan(folder).items() if key not in given}
        chosen |= former
        batch = former.get("SOLVER.IMS_PER_BATCH", batch)
        length = f"{former['SOLVER.MAX_ITER']} iterations" if "SOLVER.MAX_ITER" in former else length
    sentence = (
        f"Recipe {config}, because {why}: {count} {'videos' if is_video else 'images'}, {length} of batch {batch} on "
        f"{machine}, into {folder}."
    )
    if is_video and sum(video["num_frames"] for video in dicts) < FEW_FRAMES:
        sentence += f" Fewer than {FEW_FRAMES} frames can harm a network: compare with other weights (docs/video.md)."
    elif not is_video and count < FEW_IMAGES:
        sentence += f" Fewer than {FEW_IMAGES} images teach a network little: add images if you can."
    words = _words(config, {"DATASETS.TRAIN": data, **chosen}, folder, opts, machine.processes, flags)
    return Plan(words, folder, sentence)


def plan_fine_tuning(
    weights: str,
    task: str,
    data: str,
    test: str = "",
    out: str = "",
    config: str = "",
    opts: Sequence[str] = (),
    processes: int = 0,
    flags: Sequence[str] = (),
) -> Plan:
    """Choose config, device and workers of a fine-tuning; ``opts`` override every choice.

    Args:
        weights: checkpoint to start from.
        task: one of ``CONFIGS``.
        data, test: names of data sets with labels; ``test`` may be "".
        out: OUTPUT_DIR; "" for a folder in ``output``.
        config: name of a config; "" for the config of the task that suits the network of the weights.
        opts, processes, flags: as for :func:`plan_pretraining`.

    Raises:
        UsageError: for weights, data or options that cannot be used.
    """
    given, weights = _pairs(opts), os.path.expanduser(weights)
    names = [name for name in (data, test) if name]
    ensure_registered(names)
    count = len(load_dicts(data))
    machine = this_machine(given.get("MODEL.DEVICE", ""), processes)
    advice, path = "", weights_path(weights)
    # A config of the user's may go with weights from an address, which the run itself fetches.
    checkpoint = read_checkpoint(path) if not config or os.path.isfile(path) else {}
    if not config:
        config = _config_for(checkpoint, weights, task)
        if config == CONFIGS[task][0]:
            advice = " This config is for first tries, with small images and a short training (docs/downstream.md)."
    cfg = load_config(config, list(opts))
    batch = cfg.SOLVER.IMS_PER_BATCH
    if not processes:
        machine = replace(machine, processes=choose_processes(batch, machine.processes))
    chosen = {
        "MODEL.DEVICE": machine.device,
        "DATALOADER.NUM_WORKERS": choose_workers(cfg.DATALOADER.NUM_WORKERS, machine),
        "DATASETS.TRAIN": data,
        "DATASETS.TEST": test or "()",
        "MODEL.WEIGHTS": weights,
        **_input_of(checkpoint, cfg),
    }
    run = Path(weights).absolute().parent.name if path == weights else weights
    folder = Path(out or given.get("OUTPUT_DIR", "") or Path("output", f"{run}_{task}")).expanduser()
    sentence = (
        f"Config {config} for {task}: {count} images, {_length(cfg)} of batch {batch} on {machine}, into {folder}."
    )
    return Plan(_words(config, chosen, folder, opts, machine.processes, flags), folder, sentence + advice)


def _length(cfg: CfgNode) -> str:
    """Return the length of a run in words."""
    epochs = cfg.SOLVER.MAX_EPOCHS
    return f"{epochs} epochs" if epochs > 0 else f"{cfg.SOLVER.MAX_ITER} iterations"


def _pairs(opts: Sequence[str]) -> Mapping[str, str]:
    """Return the values of KEY, VALUE, ... by key."""
    return dict(zip(opts[::2], opts[1::2]))


def _name_of(data: str) -> str:
    """Return the name of the folder or archive of a data set, without the ending of an archive."""
    path = data.partition(":")[2] or data
    if is_archive(path):
        return title_of(path)
    return Path(path.partition("@")[0]).absolute().name


def _words(
    config: str, chosen: Mapping[str, Any], folder: Path, opts: Sequence[str], processes: int, flags: Sequence[str]
) -> list[str]:
    """Return the arguments of the launcher."""
    given = _pairs(opts)
    options = as_words({key: value for key, value in chosen.items() if key not in given})
    rest = as_words({key: value for key, value in given.items() if key != "OUTPUT_DIR"})
    gpus = ["--num-gpus", str(processes)] if processes > 1 else []
    return ["--config-file", config, *gpus, *flags, *options, *rest, "OUTPUT_DIR", str(folder)]


def _input_of(checkpoint: dict[str, Any], cfg: CfgNode) -> dict[str, Any]:
    """Return the keys that give the models of ``cfg`` the input that a checkpoint tells, such as grey images."""
    stored = InputConvention.from_dict(checkpoint.get("input"))
    return stored.keys_to_set(InputConvention.from_config(cfg)) if stored else {}


def _former_recipe(folder: Path) -> str:
    """Return the config of the last training in the run.json of ``folder``; "" without a record.

    Raises:
        UsageError: if the config is a file of the user's that is not found, because its path is relative.
    """
    for start in reversed(read_starts(folder)):
        words = shlex.split(start["command"])
        if "--eval-only" not in words and "--config-file" in words:
            recipe = words[words.index("--config-file") + 1]
            try:
                config_path(recipe)
            except UsageError:
                raise UsageError(
                    f"The run in {folder} started with the config {recipe}, which is not here: name it by --recipe."
                ) from None
            return recipe
    return ""


def _former_plan(folder: Path) -> dict[str, Any]:
    """Return the planned values of the run in ``folder``, which a resumed run keeps; {} without a run."""
    former = flatten(read_yaml(folder / "config.yaml") or {})
    return {key: former[key] for key in PLANNED if key in former}


def _config_for(checkpoint: dict[str, Any], weights: str, task: str) -> str:
    """Return the config of a task for the network of a checkpoint, the contents of the file ``weights``.

    Raises:
        UsageError: if there is none.
    """
    trunk = backbone_of(recognise(checkpoint, weights), "online", weights).trunk
    stem = trunk.get("stem.conv1.weight")
    if stem is not None and stem.shape[1] == 1:  # the configs fit grey images too
        trunk = {**trunk, "stem.conv1.weight": stem.expand(-1, 3, -1, -1)}
    name, found = architecture(trunk), None
    if name in ("resnet18", "resnet50"):
        found = CONFIGS[task][name == "resnet50"]
    if found is None:
        raise UsageError(
            f"The network of {weights} is {name or 'none of the known ones'}, for which there is no config of {task}: "
            "name a config with --config."
        )
    return found
