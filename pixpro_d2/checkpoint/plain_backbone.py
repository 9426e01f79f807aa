"""Write the trained backbone of a run as a plain network of torchvision or timm."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..utils.files import report_write_errors, write_file
from .convention import InputConvention
from .depth import stage_of
from .export import backbone_of, to_timm, to_torchvision, twin, write_tensors
from .formats import source_of_model
from .timm_networks import convention_of, name_of, network_of, random_parts

FILE = "backbone_torchvision.safetensors"
TIMM_FILE = "backbone_timm.safetensors"


@dataclass(frozen=True)
class _Plain:
    """Hold a plain network: its file and tensors, its library and name, and how to load the file."""

    file: str
    tensors: dict[str, Tensor]
    name: str
    advice: str = ""


def write_plain_backbone(model: nn.Module, convention: InputConvention, folder: str) -> str | None:
    """Write the online backbone of a model to ``folder``/``FILE`` or ``TIMM_FILE``, complete or not at all.

    Args:
        model: model of any task.
        convention: input of the model.
        folder: folder of the run.

    Returns:
        A sentence with the name of the network, the file, for timm how to load the file, and with a range of pixels how
        to scale images; None if neither library has a network that does the same with these weights and its usual
        input. There is no file then.

    Raises:
        UsageError: if the disk is full or fails.
    """
    plain = _of_timm(model, convention) if network_of(model) else _of_torchvision(model, convention)
    for file in (FILE, TIMM_FILE):
        if plain is None or plain.file != file:
            Path(folder, file).unlink(missing_ok=True)  # of an earlier run
    if plain is None:
        return None
    path = os.path.join(folder, plain.file)
    with report_write_errors(path):
        write_file(path, lambda partial: write_tensors(plain.tensors, convention, partial))
    return f"The backbone as {plain.name}: {path}{plain.advice}{convention.scaling and f'; {convention.scaling}'}"


def _of_torchvision(model: nn.Module, convention: InputConvention) -> _Plain | None:
    source = source_of_model(model.state_dict(), convention)
    name = None if _is_dilated(model) else twin(source)
    if name is None:
        return None
    backbone = backbone_of(source, "online", "the model")
    backbone.pyramid = {}
    return _Plain(FILE, to_torchvision(source, backbone, "the model"), f"torchvision's {name}")


def _of_timm(model: nn.Module, convention: InputConvention) -> _Plain | None:
    network = network_of(model)
    assert network is not None
    dilated = any(isinstance(module, nn.Conv2d) and module.dilation != (1, 1) for module in network.modules())
    if dilated or convention.keys_to_set(convention_of(network)):
        return None
    source = source_of_model(model.state_dict(), convention)
    tensors = to_timm(source, backbone_of(source, "online", "the model"), "the model")
    name = name_of(network)
    advice = (
        f"; load it by timm.create_model('{name}', num_classes=0).load_state_dict("
        f"safetensors.torch.load_file('{TIMM_FILE}'), strict=False)"
    )
    random = random_parts(network, tensors)
    if random:
        advice += (
            ", and read its maps by forward_intermediates(images, intermediates_only=True), because the parts behind "
            f"them stay random ({', '.join(random)})"
        )
    return _Plain(TIMM_FILE, tensors, f"timm's {name}", advice)


def _is_dilated(model: nn.Module) -> bool:
    """Return whether a convolution of the backbone has a dilation, which its weights do not show."""
    return any(
        isinstance(module, nn.Conv2d) and module.dilation != (1, 1) and stage_of(f"{name}.weight") is not None
        for name, module in model.named_modules()
    )
