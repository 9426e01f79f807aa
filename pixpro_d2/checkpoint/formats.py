"""Recognise checkpoint formats by the names of their tensors.

For every format, :func:`recognise` gives the weights names of this project: ``backbone.*`` and
``target_backbone.*`` with detectron2's names of a ResNet, or ``backbone.bottom_up.*`` and ``backbone.fpn_*`` if
there is an FPN, and ``projector.*`` and so on for official PixPro. A network of timm is ``backbone.net.*`` with timm's
names. All other tensors keep their names.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import nn

from ..utils.errors import UsageError
from ..weights_files import weights_path
from . import class_names, timm_networks
from .convention import IMAGENET, MSRA, TORCHVISION, InputConvention
from .depth import input_channels
from .names import fpn as fpn_names
from .names import heads as head_names
from .names import resnet as resnet_names
from .reading import read_checkpoint

ONLINE, TARGET = "backbone.", "target_backbone."
OFFICIAL = "official PixPro"
ALONE = "save the state dict of the backbone alone"  # advice for a file of no known format


@dataclass(frozen=True)
class Format:
    """Describe how some research code names a torchvision-like ResNet, without the names of wrappers.

    Attributes:
        name: name of the format, for the log.
        online: prefix of the ResNet.
        targets: possible prefixes of its momentum copy.
        beside: further prefixes that must occur.
        pyramid: prefix of the FPN.
        heads: whether the file also holds the official pre-training heads.
    """

    name: str
    online: str
    targets: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    pyramid: str | None = None
    heads: bool = False


FORMATS = (  # the first match counts
    Format(OFFICIAL, "encoder.", ("encoder_k.",), beside=("encoder_k.", "projector."), heads=True),
    Format("PixPro re-implementation", "base_encoder.", ("moment_encoder.",), beside=("moment_encoder.",)),
    Format("MoCo v3", "base_encoder.", ("momentum_encoder.",)),
    Format("OpenSelfSup (MoCo, DenseCL)", "backbone.", ("encoder_k.0.",), beside=("encoder_q.0.",)),
    Format("OpenSelfSup (MoCo, DenseCL)", "encoder_q.0.", ("encoder_k.0.",)),
    Format("MoCo", "encoder_q.", ("encoder_k.",)),
    Format("PixelCL learner", "online_encoder.net.", ("target_encoder.net.",)),
    Format("SimSiam-style", "encoder.", ("encoder_k.", "momentum_encoder.", "target_encoder.")),
    Format(
        "BYOL-style",
        "backbone.",
        ("momentum_backbone.", "backbone_momentum.", "target_backbone.", "encoder_k.0.", "target_net.0."),
    ),
    Format("DINO, its teacher", "teacher.backbone."),
    Format("DINO, its teacher", "teacher_backbone.", beside=("student_backbone.",)),
    Format("self-distillation, its teacher", "teacher.", beside=("student.",)),
    Format("VISSL", "trunk._feature_blocks."),
    Format("torchvision FPN", "backbone.body.", beside=("backbone.fpn.",), pyramid="backbone.fpn."),
    Format("torchvision FPN", "body.", beside=("fpn.",), pyramid="fpn."),
    Format("torchvision or timm ResNet", ""),
)

# Prefixes of self-supervised code, whose input is ImageNet's, even if timm's own weights of the network have another.
_SELF_SUPERVISED = ("teacher.", "student.", "teacher_backbone.", "encoder_q.", "base_encoder.", "online_encoder.")
# Values of __author__ in detectron2 pickles of torchvision-like ResNets.
_TORCHVISION_AUTHORS = ("PixPro", "Pixpro", "MOCO", "OpenSelfSup", "torchvision")
_ZOO = "Detectron2 Model Zoo"  # value of __author__
# Entries of a checkpoint that may hold the weights; the first existing entry counts.
_CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict", "blobs", "classy_state_dict.base_model.model")
# Names of wrapper modules: DataParallel and averaged models, torch.compile, FSDP and activation checkpointing.
_WRAPPER = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_FIRST_BLOCK = "layer1.0.conv1.weight"
_FOURTH_CHILD = "4.0.conv1.weight"  # the same in nn.Sequential(*resnet.children())
_TRUNK = re.compile(r"(stem\.conv\d|res[2-5])\..+")
_MODEL = re.compile(r"(.*?)(?<![^.])backbone\.(?:bottom_up\.)?res2\.0\.conv1\.weight")
# This project's prefixes. Other parts below the same prefix, such as a classifier, do not belong to the backbone.
_OWN = re.compile(r"^(target_)?backbone\.")


@dataclass
class Source:
    """Hold the weights of a file under this project's names.

    Attributes:
        format: name of the recognised format; None if unknown.
        state: all tensors.
        convention: input convention of the weights; None if unknown.
        match_suffixes: whether names outside the backbone are suffixes of the names in detectron2's models.
        folded_norms: whether norms may have scale and shift only.
        classes: entry with the names of the classes, as it is in the file; None without it.
        resized: one phrase on each tensor that was adapted to the size of the model's network.
        knows_input: whether the file has told the convention, and not the model's network.
    """

    format: str | None
    state: dict[str, torch.Tensor]
    convention: InputConvention | None = None
    match_suffixes: bool = False
    folded_norms: bool = False
    classes: Any = None
    resized: tuple[str, ...] = ()
    knows_input: bool = True


def read_weights(path: str, network: nn.Module | None = None) -> Source:
    """Read the weights of a file in any known format, without running code from the file.

    Args:
        path: path of the file, or short name of weights that come with the package.
        network: see :func:`recognise`.

    Raises:
        UsageError: see :func:`.reading.read_checkpoint` and :func:`recognise`.
    """
    return recognise(read_checkpoint(weights_path(path)), path, network)


def recognise(checkpoint: dict[str, Any], path: str, network: nn.Module | None = None) -> Source:
    """Rename the contents of a checkpoint file to this project's names.

    Args:
        checkpoint: result of :func:`.reading.read_checkpoint`.
        path: path of the file, for messages.
        network: network of timm that the weights are for; None if they are for no such network.

    Returns:
        The renamed weights. If no format matches, the names are unchanged and the format is None.

    Raises:
        UsageError: if there is no tensor, or if detectron2 does not have this variant of the ResNet.
    """
    tensors = _tensors(checkpoint)
    if not tensors:
        raise UsageError(f"{path} holds no weights: {_entries(checkpoint)}.")
    source = _timm(tensors, network) if network is not None else None
    source = source or _detectron2(checkpoint, tensors) or _caffe2(checkpoint, tensors) or _research(tensors, path)
    source = source or Source(None, tensors)
    source.match_suffixes |= bool(checkpoint.get("matching_heuristics")) or "model_state" in checkpoint
    if input_channels(source.state) not in (None, 3):
        source.convention = None  # the formats' conventions are for colour images only
    stored = _stored(checkpoint)
    source.convention = stored or _of_mmdetection(checkpoint, source.convention)
    source.knows_input |= stored is not None
    source.classes = checkpoint.get(class_names.KEY)
    return source


def source_of_model(state: Mapping[str, torch.Tensor], convention: InputConvention) -> Source:
    """Return the weights of one of this project's models, from its state dict."""
    return Source("pixpro_d2 model", _with_res5(_tensors({"model": state})), convention)


def _entries(checkpoint: Mapping[str, Any]) -> str:
    """Return what a checkpoint has instead of weights, and where they may be."""
    if not checkpoint:
        return "it is an empty dictionary"
    nested = [str(key) for key, value in checkpoint.items() if isinstance(value, Mapping) and any(_flat(value))]
    if nested:
        return f"they lie deeper, below {', '.join(nested[:3])}: save the state dict to use alone, by torch.save"
    return f"its entries are {', '.join(map(str, list(checkpoint)[:3]))}"


def _of_mmdetection(checkpoint: Mapping[str, Any], usual: InputConvention | None) -> InputConvention | None:
    """Return the input that OpenMMLab's config in a checkpoint names, ``usual`` without such a config.

    A network of style ``caffe`` takes BGR images and has the stride on the 1x1 convolution, as MSRA's. Its tensors have
    the names of the other style.
    """
    meta = checkpoint.get("meta")
    texts = [meta.get(key) for key in ("config", "cfg")] if isinstance(meta, Mapping) else []
    config = "".join(text for text in texts if isinstance(text, str))
    marks = bool(re.search(r"style\s*=\s*['\"]caffe", config)), bool(re.search(r"to_rgb\s*=\s*False", config))
    return usual if not any(marks) else MSRA if all(marks) else None


def _stored(checkpoint: Mapping[str, Any]) -> InputConvention | None:
    return InputConvention.from_dict(checkpoint.get("input"))


def _tensors(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by name, without the names of wrapper modules."""
    tensors = dict(_flat(_state(checkpoint)))
    plain = {name: _WRAPPER.sub("", name) for name in tensors}
    if len(set(plain.values())) == len(plain):
        tensors = {plain[name]: value for name, value in tensors.items()}
    return {name: torch.as_tensor(value) for name, value in tensors.items()}


def _state(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of a checkpoint that holds the weights, or the whole checkpoint if there is no such entry."""
    for path in _CONTAINERS:
        entry: Any = checkpoint
        for key in path.split("."):
            entry = entry.get(key) if isinstance(entry, Mapping) else None
        if isinstance(entry, Mapping):
            return entry
    networks = {key: checkpoint[key] for key in ("teacher", "student") if isinstance(checkpoint.get(key), Mapping)}
    return networks or {key: value for key, value in checkpoint.items() if not isinstance(value, Mapping)}


def _flat(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor | np.ndarray]]:
    """Yield (name, tensor) of nested dictionaries, with names joined by dots."""
    for name, value in state.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif _is_numbers(value):
            yield prefix + name, value


def _is_numbers(value: object) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _has_beside(form: Format, tensors: Mapping[str, torch.Tensor]) -> bool:
    return all(any(name.startswith(prefix) for name in tensors) for prefix in form.beside)


def _timm(tensors: dict[str, torch.Tensor], network: nn.Module) -> Source | None:
    """Recognise the weights of a network of timm, from timm, research code, an official release or this project."""
    found = timm_networks.find_weights(
        tensors, network, [*(form.online for form in FORMATS if _has_beside(form, tensors)), "teacher."]
    )
    if found is None:
        return None
    if found.prefix in (timm_networks.NET, timm_networks.BELOW_PYRAMID):
        return Source("pixpro_d2 checkpoint", found.state, resized=found.resized)
    below = f" below {found.prefix.removesuffix('.')}" if found.prefix else ""
    knows_input = found.prefix.startswith(_SELF_SUPERVISED)
    convention = IMAGENET if knows_input else timm_networks.convention_of(network)
    known = convention if found.channels == 3 else None
    return Source(f"network of timm{below}", found.state, known, resized=found.resized, knows_input=knows_input)


def _detectron2(checkpoint: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> Source | None:
    """Recognise detectron2's names of a ResNet, from this or another project, with or without ``backbone.``."""
    models = {match[1] for name in tensors if (match := _MODEL.fullmatch(name))}
    if len(models) == 1:  # such as the only model in a Lightning module
        tensors = {name.removeprefix(*models): value for name, value in tensors.items()}
    is_marked = _stored(checkpoint) is not None
    own = is_marked or any(name.startswith(TARGET) for name in tensors) or timm_networks.has_network(tensors)
    prefixes = [p for p in ("backbone.bottom_up.", ONLINE, "bottom_up.", "") if f"{p}res2.0.conv1.weight" in tensors]
    if not prefixes:
        # Networks without ResNet names are recognised only in files of this project, which mark themselves.
        is_model = own and any(name.startswith(ONLINE) for name in tensors)
        is_model = is_model and (is_marked or not any(form.online + _FIRST_BLOCK in tensors for form in FORMATS))
        return Source("pixpro_d2 checkpoint", tensors) if is_model else None
    author = checkpoint.get("__author__")
    convention = TORCHVISION if author in _TORCHVISION_AUTHORS else None
    if author == _ZOO and _has_norms_of_msra(tensors, prefixes[0]):
        convention = MSRA
    if prefixes[0].startswith(ONLINE):
        name = "pixpro_d2 checkpoint" if own else f"detectron2 checkpoint{f' by {author}' if author else ''}"
        return Source(name, _with_res5(tensors), convention)
    return Source(f"detectron2 weights{f' by {author}' if author else ''}", _placed(tensors), convention)


def _has_norms_of_msra(tensors: Mapping[str, torch.Tensor], prefix: str) -> bool:
    """Return whether a plain ResNet of detectron2's model zoo started from MSRA's weights and has their input.

    MSRA's norms are scale and shift only, and the zoo freezes those of the stem: their running mean is 0. The zoo's
    other ResNets have groups, group norms or a deep stem, or started from random weights. Their inputs differ.
    """
    mean, weight = (tensors.get(f"{prefix}{name}") for name in ("stem.conv1.norm.running_mean", "res2.0.conv2.weight"))
    if mean is None or weight is None or f"{prefix}stem.conv2.weight" in tensors:
        return False
    return weight.shape[0] == weight.shape[1] and not mean.any()


def _with_res5(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Move the res5 of a C4 detector back to the backbone, without the norm after res5."""
    if any(re.match(r"backbone\.(bottom_up\.)?res5\.", name) for name in tensors):
        return tensors
    return {re.sub(r"^roi_heads\.(res5\.\d)", rf"{ONLINE}\1", name): value for name, value in tensors.items()}


def _placed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add the prefix of the backbone to the names of a ResNet and its FPN, which may start with ``bottom_up.``."""
    bottom_up = "bottom_up." if any(map(fpn_names.is_fpn, tensors)) else ""
    state = {}
    for name, value in tensors.items():
        inner = name.removeprefix("bottom_up.")
        if _TRUNK.fullmatch(inner):
            name = f"{ONLINE}{bottom_up}{inner}"
        elif fpn_names.is_fpn(name):
            name = f"{ONLINE}{name}"
        state[name] = value
    return state


def _caffe2(checkpoint: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> Source | None:
    """Recognise pickles of Caffe2's Detectron: networks for ImageNet, or detectors (with ``blobs``)."""
    if "res2_0_branch2b_w" not in tensors:
        return None
    weight = tensors["res2_0_branch2b_w"]
    group_norm = any("_gn_" in name for name in tensors)
    plain = weight.shape[0] == weight.shape[1] and not group_norm
    # MSRA's files hold a bias of the first convolution that MSRA's networks do not use.
    blobs = {name: value for name, value in tensors.items() if not name.endswith("_momentum") and name != "conv1_b"}
    state = _placed(convert_c2_detectron_names(blobs)[0])
    # The convention of ResNeXt, group norm and detectors is unknown: there are several.
    convention = MSRA if plain and "blobs" not in checkpoint else None
    return Source("Caffe2 (MSRA, FAIR)", state, convention, match_suffixes=True, folded_norms=not group_norm)


def _research(tensors: dict[str, torch.Tensor], path: str) -> Source | None:
    """Recognise a torchvision-like ResNet in one of FORMATS, or the only ResNet of a file."""
    prefixes = [name.removesuffix(_FIRST_BLOCK) for name in tensors if f".{name}".endswith(f".{_FIRST_BLOCK}")]
    sequences = [name.removesuffix(_FOURTH_CHILD) for name in tensors if f".{name}".endswith(f".{_FOURTH_CHILD}")]
    prefixes = prefixes or [prefix for prefix in sequences if _is_sequence(tensors, prefix)]
    # If a file has only one ResNet, it is the backbone, whatever its prefix.
    only = [Format(f"ResNet below {prefixes[0]}", prefixes[0])] if len(prefixes) == 1 else []
    for form in (*FORMATS, *only):
        if not _has_beside(form, tensors):
            continue
        names = _resnet(tensors, form.online, path)
        if names is None:
            continue
        place = "bottom_up." if form.pyramid else ""
        renamed = {name: f"{ONLINE}{place}{inner}" for name, inner in names.items()}
        for target in form.targets:
            copy = _resnet(tensors, target, path) or {}
            renamed.update({name: f"{TARGET}{inner}" for name, inner in copy.items()})
        if form.pyramid:
            inner_names = {n.removeprefix(form.pyramid): n for n in tensors if n.startswith(form.pyramid)}
            levels = fpn_names.to_detectron2(inner_names)
            renamed.update({inner_names[theirs]: f"{ONLINE}{ours}" for theirs, ours in levels.items()})
        if form.heads:
            heads = {name: head_names.from_official(name) for name in tensors}
            renamed.update({name: head for name, head in heads.items() if head})
        for name in tensors.keys() - renamed.keys():
            other = _OWN.sub(r"\1", name)
            renamed[name] = name if other in tensors else other
        state = {renamed[name]: value for name, value in tensors.items()}
        return Source(form.name, state, TORCHVISION)
    return None


def _is_sequence(tensors: Mapping[str, torch.Tensor], prefix: str) -> bool:
    """Return whether the children of a ResNet are numbered below ``prefix``; number 3 is the max pooling."""
    names = {f"{prefix}0.weight", f"{prefix}{_FOURTH_CHILD}"}
    return names <= tensors.keys() and f"{prefix}3.0.conv1.weight" not in tensors


def _resnet(tensors: Mapping[str, torch.Tensor], prefix: str, path: str) -> dict[str, str] | None:
    """Map the names below ``prefix`` to detectron2's names; return None if there is no torchvision-like ResNet.

    Raises:
        UsageError: if the ResNet has parts that detectron2's plain ResNet does not have.
    """
    below = {name: name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    inner: dict[str, str | None] = {**below}
    if _is_sequence(tensors, prefix):
        inner = {name: resnet_names.from_sequential(short) for name, short in below.items()}
    elif f"{prefix}{_FIRST_BLOCK}" not in inner:
        return None
    parts = {name: short for name, short in inner.items() if short and re.match(r"(conv1|bn1|layer\d)\.", short)}
    renamed = {name: resnet_names.to_detectron2(short) for name, short in parts.items()}
    odd = next((name for name, ours in renamed.items() if ours is None), None)
    if odd is None and f"{prefix}layer1.0.downsample.1.weight" in parts:
        shortcut = f"{prefix}layer1.0.downsample.1.weight"
        odd = shortcut if tensors[shortcut].ndim != 1 else None  # the -D variant, where pooling comes first
    if odd:
        raise UsageError(
            f"{path} holds a variant of ResNet that this project cannot take over ({odd} is in no plain ResNet): use "
            "weights of one with a 7x7 stem and without additions to its blocks."
        )
    return {name: ours for name, ours in renamed.items() if ours}
