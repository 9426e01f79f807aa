"""Write the trained backbone of a run as a plain ResNet of torchvision."""

import os
from pathlib import Path

from torch import nn

from ..utils.files import report_write_errors, write_file
from .convention import InputConvention
from .depth import stage_of
from .export import backbone_of, to_torchvision, twin, write_tensors
from .formats import source_of_model

FILE = "backbone_torchvision.safetensors"


def write_plain_backbone(model: nn.Module, convention: InputConvention, folder: str) -> str | None:
    """Write the online backbone of a model to ``folder``/``FILE``, complete or not at all.

    Args:
        model: model of any task.
        convention: input of the model.
        folder: folder of the run.

    Returns:
        Name of the function in ``torchvision.models`` that builds the network of the file; None if torchvision has no
        network that does the same with these weights and its usual input. There is no file then.

    Raises:
        UsageError: if the disk is full or fails.
    """
    source = source_of_model(model.state_dict(), convention)
    name = None if _is_dilated(model) else twin(source)
    path = os.path.join(folder, FILE)
    if name is None:
        Path(path).unlink(missing_ok=True)  # of an earlier run
        return None
    backbone = backbone_of(source, "online", "the model")
    backbone.pyramid = {}
    tensors = to_torchvision(source, backbone, "the model")
    with report_write_errors(path):
        write_file(path, lambda partial: write_tensors(tensors, convention, partial))
    return name


def _is_dilated(model: nn.Module) -> bool:
    """Return whether a convolution of the backbone has a dilation, which its weights do not show."""
    return any(
        isinstance(module, nn.Conv2d) and module.dilation != (1, 1) and stage_of(f"{name}.weight") is not None
        for name, module in model.named_modules()
    )
