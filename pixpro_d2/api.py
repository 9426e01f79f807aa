"""Pre-train and fine-tune by one call, as the commands of the same names do."""

import multiprocessing
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from . import needs_detectron2  # noqa: F401
from .checkpoint.export import architecture, backbone_of, to_torchvision
from .checkpoint.formats import read_weights
from .checkpoint.plain_backbone import FILE
from .checkpoint.tensors import check_tensors
from .command_line import as_words
from .commands.checks import check_weights, data_address
from .commands.parsing import flags
from .commands.planning import Plan, plan_fine_tuning, plan_pretraining, run_plan
from .data.pretrain.samples import forget_files
from .monitoring.curves import finite, read_curves
from .utils.errors import UsageError


@dataclass(frozen=True)
class FinishedRun:
    """Hold the results of a finished run.

    Attributes:
        folder: OUTPUT_DIR.
        checkpoint: the last checkpoint, with all trained parts.
        metrics: last value of each recorded metric; metrics with another last value than a finite number are missing.
    """

    folder: Path
    checkpoint: Path
    metrics: dict[str, float]

    @property
    def backbone(self) -> nn.Module:
        """Return the backbone as a torchvision ResNet, see :func:`load_backbone`.

        Raises:
            UsageError: if no ResNet of torchvision is equal to the backbone, for example because of a dilation.
        """
        # A run writes this file only for an equal ResNet; the weights alone do not show a dilation.
        path = self.folder / FILE
        if not path.is_file():
            raise UsageError(
                f"No ResNet of torchvision is equal to the backbone of {self.checkpoint}: build the network of "
                f"{self.folder / 'config.yaml'}."
            )
        return load_backbone(path)


def pretrain(
    data: str | Path,
    out: str | Path = "",
    recipe: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    num_gpus: int = 0,
    resume: bool = False,
    allow_changes: bool = False,
) -> FinishedRun:
    """Pre-train on images without labels; in a script, call it below ``if __name__ == "__main__":``.

    On macOS, and for several GPUs anywhere, new processes import the script. Start several runs at once in processes,
    not in threads: a run needs the main thread of its process for stop signals.

    A run of one process runs in the caller's process: it seeds the random generators of Python, NumPy and PyTorch, and
    leaves TensorFloat-32 (``SOLVER.AMP.TF32``) and ``torch.backends.cudnn.benchmark`` (``CUDNN_BENCHMARK``) as its
    config sets them.

    Args:
        data: folder, zip or tar file of images, or a data set such as ``video:DIR`` or ``voc:DIR@SPLIT``.
        out: folder of the run; by default a folder in ``output`` with the name of the data.
        recipe: name of a config such as ``pretrain/quickstart``; ``auto`` chooses it by number of images and device.
        overrides: config keys and values, such as ``{"SOLVER.MAX_ITER": 1000}``.
        num_gpus: number of processes; 0 for one on each GPU, or one on the CPU.
        resume: resume the run in this folder.
        allow_changes: let a resumed run continue with another batch, length or learning rate.

    Raises:
        UsageError: for a mistake in arguments, config or data.
    """
    _prepare_process()
    name = data_address(str(data), scheme="images")
    opts, options = as_words(overrides or {}), flags(resume, allow_changes)
    return _run(plan_pretraining(name, str(out), recipe, opts, num_gpus, options))


def finetune(
    weights: str | Path,
    task: str,
    data: str,
    test: str = "",
    out: str | Path = "",
    config: str = "",
    overrides: Mapping[str, Any] | None = None,
    num_gpus: int = 0,
    resume: bool = False,
    allow_changes: bool = False,
) -> FinishedRun:
    """Train a downstream task from pre-trained weights; in a script, call it as :func:`pretrain`.

    Args:
        weights: checkpoint, in any format that MODEL.WEIGHTS takes.
        task: ``detection``, ``segmentation`` or ``classification``.
        data: labelled data set to train on, such as ``voc:DIR@SPLIT``.
        test: labelled data set to evaluate on; "" for none.
        out: folder of the run; by default a folder in ``output``.
        config: name of a config; by default the config for the task and the network of the weights.
        overrides, num_gpus, resume, allow_changes: as for :func:`pretrain`.

    Raises:
        UsageError: for a mistake in arguments, config or data.
    """
    _prepare_process()
    check_weights(str(weights))
    names = data_address(data), test and data_address(test)
    opts, options = as_words(overrides or {}), flags(resume, allow_changes)
    return _run(plan_fine_tuning(str(weights), task, *names, str(out), config, opts, num_gpus, options))


def load_backbone(path: str | Path) -> nn.Module:
    """Return the backbone of a checkpoint as a torchvision ResNet in eval mode, whose ``fc`` is the identity.

    Args:
        path: checkpoint in any format that MODEL.WEIGHTS takes, trained with torchvision's input: RGB images, divided
            by 255 and normalised with ImageNet's mean and standard deviation. The network of a training with
            INPUT.PIXEL_RANGE takes images scaled so that this range becomes 0 to 1; a warning says so.

    Raises:
        UsageError: for another network or input, weights that are no finite numbers, or a file that is no checkpoint.
    """
    path = str(path)
    source = read_weights(path)
    if source.convention is None:
        raise UsageError(
            f"{path} does not say which input its backbone takes, and torchvision's takes RGB images with ImageNet's "
            "mean and deviation: load a checkpoint of this project, save the network of a learner alone by "
            "torch.save(learner.net.state_dict(), FILE), or build the network of its training."
        )
    backbone = backbone_of(source, "online", path)
    backbone.pyramid = {}
    check_tensors(backbone.trunk, path)
    weights = to_torchvision(source, backbone, path)
    name = architecture(backbone.trunk)
    assert name is not None  # to_torchvision refuses other networks
    network = getattr(torchvision.models, name)()
    network.fc = nn.Identity()
    if source.convention.scaling:
        warnings.warn(f"The backbone of {path} has a range of pixels: {source.convention.scaling}.", stacklevel=2)
    network.load_state_dict(weights, strict=False)  # a file may lack num_batches_tracked, which only training needs
    return network.eval()


def _prepare_process() -> None:
    """Check that a run may start here, and forget the files that an earlier run has read.

    Raises:
        UsageError: in a thread, and in a new process that imports the script of its parent.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            "A new process imports the script that started the run, and the script would start a second run: put the "
            'call in the script below `if __name__ == "__main__":`.'
        )
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            f"A run must start in the main thread, but the thread {threading.current_thread().name} starts it: start "
            "each run in a process of its own."
        )
    forget_files()


def _run(plan: Plan) -> FinishedRun:
    """Run a plan; raise an error of the launcher as an exception."""
    try:
        run_plan(plan)
    except SystemExit as end:
        if isinstance(end.code, str):
            raise UsageError(end.code.removeprefix("error: ")) from end
        if end.code:
            raise RuntimeError(f"The run in {plan.folder} ended with exit code {end.code}: see its log.txt.") from end
    file = plan.folder / "metrics.json"
    curves = read_curves(file)[0] if file.is_file() else {}
    metrics = {name: curve[-1][1] for name, curve in curves.items() if finite(curve[-1:])}
    return FinishedRun(plan.folder, plan.folder / "model_final.pth", metrics)
