"""Weights of networks of timm: find them in a file, and convert them to a model's network.

A network of timm is the module ``net`` of a backbone, or of the network below a pyramid. The names below it are timm's.
"""

import contextlib
import io
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .convention import InputConvention

NET = "backbone.net."
BELOW_PYRAMID = "backbone.bottom_up.net."
# Names of an official release that share no name with timm's; timm's converter recognises them.
_OFFICIAL = ("downsample_layers.0.0.weight",)  # ConvNeXt
_GRIDS = ("pos_embed", "relative_position_bias_table")  # that converters resize
_MIN_SHARE = 0.2  # of the network's names that a file must have


@dataclass(frozen=True)
class NetworkWeights:
    """Hold the tensors of a file, with the weights of the network below ``NET``.

    Attributes:
        state: all tensors of the file. Parts that the network was built without, such as a classifier, are outside NET.
        prefix: names of the modules around the network in the file.
        channels: number of channels of the images; None if the file lacks the first convolution.
        resized: one phrase on each tensor that was adapted to the size of the network.
    """

    state: dict[str, Tensor]
    prefix: str
    channels: int | None
    resized: tuple[str, ...] = ()


def network_of(model: nn.Module) -> nn.Module | None:
    """Return the network of timm in the backbone of a model; None for any other backbone."""
    backbone = getattr(model, "backbone", None)
    network = getattr(getattr(backbone, "bottom_up", backbone), "net", None)
    return network if isinstance(network, nn.Module) and hasattr(network, "pretrained_cfg") else None


def has_network(names: Iterable[str]) -> bool:
    """Return whether names of tensors, under this project's names, belong to a model with a network of timm."""
    return any(name.startswith((NET, BELOW_PYRAMID)) for name in names)


def convention_of(network: nn.Module) -> InputConvention:
    """Return the input convention of timm's own weights of a network."""
    mean, std = (tuple(255 * value for value in _config(network)[key]) for key in ("mean", "std"))
    return InputConvention("RGB", mean, std)


def name_of(network: nn.Module) -> str:
    """Return timm's name of a network, without the tag of weights."""
    return _config(network)["architecture"]


def random_parts(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the parts of timm's network without a classifier that lack all their tensors, if one has a random matrix.

    Args:
        network: a network that was perhaps built without some of its parts.
        tensors: by timm's names.
    """
    missing = {name: value for name, value in _full_state(network, num_classes=0).items() if name not in tensors}
    if all(value.ndim < 2 for value in missing.values()):
        return []
    there = {module for name in tensors for module in _modules_around(name)}
    parts = (next((module for module in _modules_around(name) if module not in there), name) for name in missing)
    return list(dict.fromkeys(parts))


def _modules_around(name: str) -> list[str]:
    """Return the paths of the modules that hold a tensor, the outermost first."""
    return [name[:end] for end, character in enumerate(name) if character == "."]


def find_weights(
    tensors: Mapping[str, Tensor], network: nn.Module, prefixes: Sequence[str] = ()
) -> NetworkWeights | None:
    """Find the weights of a network in the tensors of a file, and convert them to timm's names and the network's sizes.

    Weights of a similar network keep their shapes, so that the difference can be reported.

    Args:
        tensors: tensors of the file by name.
        network: network of the model.
        prefixes: names that may stand before the network's, the best first. They decide between copies of a network.

    Returns:
        None if the tensors belong to a network of another kind, or to several networks, none of which is the backbone.
    """
    own = network.state_dict()
    prefix = _find_prefix(tensors, own, (NET, BELOW_PYRAMID, *prefixes))
    if prefix is None:
        return None
    inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    left_out = _full_state(network).keys() - set(own)
    modules = {name.partition(".")[0] for name in own}

    def belongs(name: str) -> bool:
        return name in own or (name not in left_out and name.partition(".")[0] in modules)

    fits = all(name in inner and inner[name].shape == value.shape for name, value in own.items())
    exact = fits and all(name in own for name in inner if belongs(name))
    converted = inner if exact else _convert(inner, own, network)
    outside = "" if prefix in (NET, BELOW_PYRAMID) else prefix
    state = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    state.update({f"{NET if belongs(name) else outside}{name}": value for name, value in converted.items()})
    resized = tuple(
        f"{name} from {list(inner[name].shape)} to {list(value.shape)}"
        for name, value in converted.items()
        if name.endswith(_GRIDS) and name in inner and _side(inner[name]) != _side(value)
    )
    first = next((name for name, value in own.items() if name.endswith(".weight") and value.ndim == 4), "")
    channels = converted[first].shape[1] if first in converted and converted[first].ndim == 4 else None
    return NetworkWeights(state, prefix, channels, resized)


def _find_prefix(tensors: Iterable[str], own: Mapping[str, Tensor], prefixes: Sequence[str]) -> str | None:
    """Return the prefix below which the most names of a network are; None if there are few, or none is the best."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            inner = ".".join(parts[i:])
            if inner in own or inner in _OFFICIAL:
                counts[name.removesuffix(inner)] += len(own) if inner in _OFFICIAL else 1
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most]
    if most < _MIN_SHARE * len(own):
        return None
    return best[0] if len(best) == 1 else next((prefix for prefix in prefixes if prefix in best), None)


def _convert(inner: dict[str, Tensor], own: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Apply timm's converter for files of the network, unless they have patches of another size."""
    converter = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    patches = [state.get("patch_embed.proj.weight") for state in (inner, own)]
    if converter is None or _kernel_size(patches[0]) != _kernel_size(patches[1]):
        return inner
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the converter of DINOv3 prints the biases that are no weights
            return converter(dict(inner), network)
    except Exception:  # converters may raise any exception for weights of another network; its names are reported
        return inner


def _side(grid: Tensor) -> int:
    """Return the side of a square grid of tokens (..., channels); a class token does not count."""
    return math.isqrt(grid.shape[:-1].numel())


def _kernel_size(weight: Tensor | None) -> torch.Size | None:
    """Return the height and width of the kernels of a convolution; None for another tensor."""
    return weight.shape[2:] if weight is not None and weight.ndim == 4 else None


def _full_state(network: nn.Module, **options: Any) -> dict[str, Tensor]:
    """Return the tensors, without values, of the whole network that timm builds, with its classifier and last norms."""
    import timm  # it is installed, because the network is timm's

    with torch.device("meta"):
        return timm.create_model(name_of(network), pretrained=False, **options).state_dict()


def _config(network: nn.Module) -> dict[str, Any]:
    """Return what timm knows of its weights of a network."""
    return cast(dict[str, Any], network.pretrained_cfg)
