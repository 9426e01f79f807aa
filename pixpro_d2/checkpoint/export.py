"""Export a recognised checkpoint to the formats of other code; reading.py and formats.py import them."""

import functools
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torchvision

from ..utils.errors import UsageError
from .convention import TORCHVISION, InputConvention
from .formats import ALONE, OFFICIAL, ONLINE, TARGET, Source
from .names import fpn as fpn_names
from .names import heads as head_names
from .names import resnet as resnet_names
from .timm_networks import has_network

_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)


@dataclass
class Backbone:
    """Hold a backbone's tensors under detectron2's names, without the prefixes ``backbone.`` and ``bottom_up.``.

    The names of a network of timm begin with ``net.``.
    """

    trunk: dict[str, torch.Tensor]
    pyramid: dict[str, torch.Tensor]

    @property
    def is_timm(self) -> bool:
        """Return whether the trunk is a network of timm."""
        return has_network(f"{ONLINE}{name}" for name in self.trunk)


def backbone_of(source: Source, branch: str, path: str) -> Backbone:
    """Return the backbone of a recognised checkpoint.

    Args:
        source: the recognised checkpoint.
        branch: ``online`` or ``target`` (the momentum copy).
        path: path of the file, for messages.
    """
    prefix = {"online": ONLINE, "target": TARGET}[branch]
    inner = {n.removeprefix(prefix): value for n, value in source.state.items() if n.startswith(prefix)}
    if not inner:
        there = ", ".join(list(source.state)[:3]) + ("" if source.format else f"; {ALONE}")
        raise UsageError(f"{path} holds no {branch} backbone in any known format: its first names are {there}.")
    pyramid = {name: value for name, value in inner.items() if fpn_names.is_fpn(name)}
    trunk = {name.removeprefix("bottom_up."): value for name, value in inner.items() if name not in pyramid}
    return Backbone(trunk, pyramid)


def to_detectron2(source: Source, backbone: Backbone, path: str) -> dict[str, Any]:
    """Return the contents of a pickle as from the official converter, with the pyramid as ``fpn_*``.

    The names are suffixes of the names in detectron2's models, and detectron2's checkpointer matches the suffixes. The
    input of official checkpoints is known. For other checkpoints, the input convention is a further entry.
    """
    _check_no_timm(backbone, path)
    official = source.format == OFFICIAL
    contents: dict[str, Any] = {
        "model": {name: _to_numpy(value) for name, value in {**backbone.trunk, **backbone.pyramid}.items()},
        "__author__": "PixPro" if official else "pixpro_d2",
        "matching_heuristics": True,
    }
    if source.convention and not official:
        contents["input"] = source.convention.to_dict()
    return contents


def _to_numpy(value: torch.Tensor) -> np.ndarray:
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()


def to_torchvision(source: Source, backbone: Backbone, path: str) -> dict[str, torch.Tensor]:
    """Return a state dict of torchvision's ResNet without ``fc``, or of its ``BackboneWithFPN`` with a pyramid."""
    _check_no_timm(backbone, path)
    _check_convention(source, path)
    trunk = _torchvision_trunk(backbone, path)
    if not backbone.pyramid:
        return trunk
    levels = fpn_names.to_torchvision(backbone.pyramid)
    pyramid = {f"fpn.{levels[name]}": value for name, value in backbone.pyramid.items()}
    return {**{f"body.{name}": value for name, value in trunk.items()}, **pyramid}


def to_timm(source: Source, backbone: Backbone, path: str) -> dict[str, torch.Tensor]:
    """Return a state dict with timm's names, without classifier and pyramid.

    A state dict has no place for the mean and the standard deviation of the input; they are those of the training.
    """
    if not backbone.is_timm:
        return to_torchvision(source, Backbone(backbone.trunk, {}), path)
    if source.convention and source.convention.format == "BGR":
        raise UsageError(f"{path} expects {source.convention}, but timm's networks take RGB: use --to safetensors.")
    return {name.removeprefix("net."): value for name, value in backbone.trunk.items()}


def to_official(source: Source, backbone: Backbone, path: str) -> dict[str, Any]:
    """Return a checkpoint of the official code.

    The checkpoint holds ``model`` with ``module.encoder.*``, and target and heads if the source has them. The official
    code also reads ``epoch``, which is 0.
    """
    _check_no_timm(backbone, path)
    _check_convention(source, path)
    parts = {"encoder": _torchvision_trunk(backbone, path)}
    if any(name.startswith(TARGET) for name in source.state):
        parts["encoder_k"] = _torchvision_trunk(backbone_of(source, "target", path), path)
    model = {f"module.{part}.{name}": value for part, trunk in parts.items() for name, value in trunk.items()}
    model.update({f"module.{theirs}": source.state[name] for name, theirs in official_heads(source.state).items()})
    return {"model": model, "epoch": 0}


def official_heads(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the official names of the pre-training heads of a checkpoint; {} if the official model has no such heads.

    The official heads take the features of the ResNet, so the heads on an FPN are others.
    """
    on_pyramid = any(fpn_names.is_fpn(name.removeprefix(ONLINE)) for name in state)
    return {} if on_pyramid else head_names.to_official(state)


def write_detectron2(contents: Mapping[str, Any], path: str) -> None:
    """Write the result of :func:`to_detectron2` as a pickle that NumPy 1 and 2 read.

    NumPy 2 knows the module of its arrays by the name of NumPy 1 too, which detectron2 v0.6 needs unpatched. Protocol 3
    writes the name as one line of text.
    """
    data = pickle.dumps(contents, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    Path(path).write_bytes(data)


def write_safetensors(source: Source, backbone: Backbone, path: str) -> None:
    """Write a backbone under the names of detectron2's detectors, with the input convention as metadata."""
    bottom_up = "bottom_up." if backbone.pyramid else ""
    tensors = {f"{ONLINE}{bottom_up}{name}": value for name, value in backbone.trunk.items()}
    tensors.update({f"{ONLINE}{name}": value for name, value in backbone.pyramid.items()})
    write_tensors(tensors, source.convention, path)


def write_tensors(tensors: Mapping[str, torch.Tensor], convention: InputConvention | None, path: str) -> None:
    """Write tensors as a safetensors file, with the input convention as metadata."""
    metadata = {"format": "pt"}
    if convention:
        metadata["input"] = json.dumps(convention.to_dict())
    copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    safetensors.torch.save_file(copies, path, metadata)


def twin(source: Source) -> str | None:
    """Return the name of torchvision's ResNet that does the same with the online backbone and torchvision's input.

    Return None if there is none: another network, another norm than a batch norm, another input or place of the stride.
    """
    if not any(name.startswith(ONLINE) for name in source.state) or _other_keys(source):
        return None
    trunk = backbone_of(source, "online", "the model").trunk
    name = architecture(trunk)
    return name if name and not _missing_statistics(name, trunk) else None


def architecture(trunk: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of torchvision's ResNet that has the weights of a trunk; None for any other trunk.

    The trunk may have other norms than batch norms.
    """
    renamed = {resnet_names.to_torchvision(name): value.shape for name, value in trunk.items()}
    for name in _RESNETS:
        shapes = _shapes(name)
        weights = {key for key in shapes if key.endswith((".weight", ".bias"))}
        if weights <= set(renamed) and all(key and shapes.get(key) == shape for key, shape in renamed.items()):
            return name
    return None


def _missing_statistics(name: str, trunk: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the running statistics of torchvision's ResNet ``name`` that a trunk lacks."""
    there = {resnet_names.to_torchvision(key) for key in trunk}
    return [key for key in _shapes(name) if "running_" in key and key not in there]


@functools.cache
def _shapes(name: str) -> dict[str, torch.Size]:
    """Return the shapes of the tensors of torchvision's ResNet ``name``, without the classifier."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    return {key: value.shape for key, value in model.state_dict().items() if not key.startswith("fc.")}


def _torchvision_trunk(backbone: Backbone, path: str) -> dict[str, torch.Tensor]:
    resnet = architecture(backbone.trunk)
    if resnet is None:
        odd = next((name for name in backbone.trunk if resnet_names.to_torchvision(name) is None), None)
        channels = backbone.trunk["stem.conv1.weight"].shape[1] if "stem.conv1.weight" in backbone.trunk else 3
        why = f"its number of input channels is {channels}" if channels != 3 else "its depth or widths are others"
        why = f"it has {odd}" if odd else why
        raise UsageError(
            f"The backbone of {path} is none of torchvision's {', '.join(_RESNETS)} ({why}): use --to detectron2 or "
            "safetensors."
        )
    lacking = _missing_statistics(resnet, backbone.trunk)
    if lacking:
        raise UsageError(
            f"The backbone of {path} lacks the running statistics of torchvision's {resnet} ({lacking[0]} is the "
            "first), as a ResNet with group norms does: use --to detectron2 or safetensors."
        )
    renamed = {resnet_names.to_torchvision(name): value for name, value in backbone.trunk.items()}
    return {name: value for name, value in renamed.items() if name}  # torchvision's ResNet has all names


def _check_no_timm(backbone: Backbone, path: str) -> None:
    """Raise a UsageError if a trunk is a network of timm, which the formats of ResNets cannot hold."""
    if backbone.is_timm:
        raise UsageError(f"The backbone of {path} is a network of timm and no ResNet: use --to timm or safetensors.")


def _check_convention(source: Source, path: str) -> None:
    """Raise a UsageError unless the input and the stride are torchvision's; its formats cannot express others."""
    if _other_keys(source):
        raise UsageError(
            f"{path} expects {source.convention}, which this format cannot express: use --to detectron2 or safetensors."
        )


def _other_keys(source: Source) -> dict[str, Any]:
    """Return the config keys in which the convention of a checkpoint differs from torchvision's."""
    return source.convention.keys_to_set(TORCHVISION) if source.convention else {}
