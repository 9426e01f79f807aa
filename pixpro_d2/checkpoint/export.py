"""A recognised checkpoint in the formats of other code; reading.py and formats.py are the way back."""

import functools
import json
import pickle
from dataclasses import dataclass

import safetensors.torch
import torch
import torchvision

from ..utils.errors import UsageError
from .convention import TORCHVISION
from .formats import OFFICIAL, ONLINE, TARGET
from .names import fpn as fpn_names
from .names import heads as head_names
from .names import resnet as resnet_names

_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)


@dataclass
class Backbone:
    """A backbone's tensors under detectron2's names, without the ``backbone.`` and ``bottom_up.`` before them."""

    trunk: dict
    pyramid: dict


def backbone_of(source, branch, path):
    """The backbone of a :class:`.formats.Source`.

    Args:
        branch (str): ``online`` or ``target`` (the momentum copy).
        path (str): for messages.
    """
    prefix = {"online": ONLINE, "target": TARGET}[branch]
    inner = {n.removeprefix(prefix): value for n, value in source.state.items() if n.startswith(prefix)}
    if not inner:
        there = ", ".join(list(source.state)[:3])
        raise UsageError(f"{path} holds no {branch} backbone in any known format: its first names are {there}.")
    pyramid = {name: value for name, value in inner.items() if fpn_names.is_fpn(name)}
    trunk = {name.removeprefix("bottom_up."): value for name, value in inner.items() if name not in pyramid}
    return Backbone(trunk, pyramid)


def to_detectron2(source, backbone):
    """Contents of a pickle as the official converter makes them, with the pyramid as ``fpn_*``.

    The names are ends of those in detectron2's models, to which its checkpointer matches them. What does not come
    from an official checkpoint, whose input is known, has its input convention as a further entry.
    """
    official = source.format == OFFICIAL
    contents = {
        "model": {name: value.numpy() for name, value in {**backbone.trunk, **backbone.pyramid}.items()},
        "__author__": "PixPro" if official else "pixpro_d2",
        "matching_heuristics": True,
    }
    if source.convention and not official:
        contents["input"] = source.convention.to_dict()
    return contents


def to_torchvision(source, backbone, path):
    """State dict of torchvision's ResNet without ``fc``, or of its ``BackboneWithFPN`` if there is a pyramid."""
    _check_convention(source, path)
    trunk = _torchvision_trunk(backbone, path)
    if not backbone.pyramid:
        return trunk
    levels = fpn_names.to_torchvision(backbone.pyramid)
    pyramid = {f"fpn.{levels[name]}": value for name, value in backbone.pyramid.items()}
    return {**{f"body.{name}": value for name, value in trunk.items()}, **pyramid}


def to_official(source, backbone, path):
    """Checkpoint of the official code: ``model`` with ``module.encoder.*``, target and heads if the source has them.

    The heads of a model with an FPN are left out: the official ones stand on the ResNet.
    """
    _check_convention(source, path)
    parts = {"encoder": _torchvision_trunk(backbone, path)}
    if any(name.startswith(TARGET) for name in source.state):
        parts["encoder_k"] = _torchvision_trunk(backbone_of(source, "target", path), path)
    model = {f"module.{part}.{name}": value for part, trunk in parts.items() for name, value in trunk.items()}
    on_pyramid = any(fpn_names.is_fpn(name.removeprefix(ONLINE)) for name in source.state)
    heads = {} if on_pyramid else head_names.to_official(source.state)
    model.update({f"module.{heads[name]}": source.state[name] for name in heads})
    return {"model": model}


def write_detectron2(contents, path):
    with open(path, "wb") as file:
        pickle.dump(contents, file)


def write_safetensors(source, backbone, path):
    """Names of this project's models, which are those of detectron2's detectors, and the input as metadata."""
    bottom_up = "bottom_up." if backbone.pyramid else ""
    tensors = {f"{ONLINE}{bottom_up}{name}": value for name, value in backbone.trunk.items()}
    tensors.update({f"{ONLINE}{name}": value for name, value in backbone.pyramid.items()})
    metadata = {"format": "pt"}
    if source.convention:
        metadata["input"] = json.dumps(source.convention.to_dict())
    tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    safetensors.torch.save_file(tensors, path, metadata)


def architecture(trunk):
    """Return the name of torchvision's ResNet that a trunk is one of; None for others."""
    renamed = {resnet_names.to_torchvision(name): value.shape for name, value in trunk.items()}
    for name in _RESNETS:
        shapes = _shapes(name)
        weights = {key for key in shapes if key.endswith((".weight", ".bias"))}
        if weights <= set(renamed) and all(shapes.get(key) == shape for key, shape in renamed.items()):
            return name
    return None


@functools.cache
def _shapes(name):
    """Return the shapes of the tensors of torchvision's ResNet ``name``, without the classifier's."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    return {key: value.shape for key, value in model.state_dict().items() if not key.startswith("fc.")}


def _torchvision_trunk(backbone, path):
    if architecture(backbone.trunk) is None:
        odd = next((name for name in backbone.trunk if resnet_names.to_torchvision(name) is None), None)
        channels = backbone.trunk["stem.conv1.weight"].shape[1] if "stem.conv1.weight" in backbone.trunk else 3
        why = f"its number of input channels is {channels}" if channels != 3 else "its depth or widths are others"
        why = f"it has {odd}" if odd else why
        raise UsageError(
            f"The backbone of {path} is none of torchvision's {', '.join(_RESNETS)} ({why}): use --to detectron2 or "
            "safetensors."
        )
    return {resnet_names.to_torchvision(name): value for name, value in backbone.trunk.items()}


def _check_convention(source, path):
    """The formats of torchvision's ResNets cannot tell another input, nor the stride in another place."""
    keys = source.convention.keys_to_set(TORCHVISION) if source.convention else {}
    if keys:
        raise UsageError(
            f"{path} expects {source.convention}, which this format cannot say or be: use --to detectron2 or "
            "safetensors."
        )
