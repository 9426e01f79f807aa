"""The checkpoint formats that are recognised, by the names of their tensors.

Whatever the format, :func:`recognise` gives the weights names of this project: ``backbone.*`` and
``target_backbone.*`` with detectron2's names of a ResNet, or ``backbone.bottom_up.*`` and ``backbone.fpn_*`` if
there is an FPN, and ``projector.*`` and so on for official PixPro. What is neither keeps its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names

from ..errors import UsageError
from . import fpn_names, head_names, resnet_names
from .convention import MSRA, TORCHVISION, InputConvention
from .depth import input_channels

ONLINE, TARGET = "backbone.", "target_backbone."
OFFICIAL = "official PixPro"


@dataclass(frozen=True)
class Format:
    """A way of research code to name a torchvision-like ResNet; names of wrappers are taken out before.

    Attributes:
        name (str): for the log.
        online (str): prefix of the ResNet.
        targets (tuple[str]): prefixes that its momentum copy may have.
        beside (tuple[str]): prefixes that must occur too.
        pyramid (str or None): prefix of the FPN.
        heads (bool): whether the official pre-training heads lie beside it.
    """

    name: str
    online: str
    targets: tuple = ()
    beside: tuple = ()
    pyramid: str | None = None
    heads: bool = False


FORMATS = (  # the first that fits counts
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
    Format("VISSL", "trunk._feature_blocks."),
    Format("torchvision FPN", "backbone.body.", beside=("backbone.fpn.",), pyramid="backbone.fpn."),
    Format("torchvision FPN", "body.", beside=("fpn.",), pyramid="fpn."),
    Format("torchvision or timm ResNet", ""),
)

# Who wrote detectron2 pickles of torchvision-like ResNets, by the pickles' __author__.
_TORCHVISION_AUTHORS = ("PixPro", "Pixpro", "MOCO", "OpenSelfSup", "torchvision")
# Entries of a checkpoint that hold the weights; the first that is there counts.
_CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict", "blobs", "classy_state_dict.base_model.model")
# Modules around a module, of DataParallel and averaged models, torch.compile, FSDP and recomputed activations.
_WRAPPER = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_FIRST_BLOCK = "layer1.0.conv1.weight"
_TRUNK = re.compile(r"(stem\.conv\d|res[2-5])\..+")


@dataclass
class Source:
    """Weights under this project's names.

    Attributes:
        format (str or None): what they were recognised as.
        state (dict[str, Tensor]): all tensors.
        convention (InputConvention or None): None if the file does not tell it.
        match_suffixes (bool): names outside the backbone are ends of the names that detectron2's models have.
        folded_norms (bool): norms may have scale and shift only.
    """

    format: str | None
    state: dict
    convention: InputConvention | None = None
    match_suffixes: bool = False
    folded_norms: bool = False


def recognise(checkpoint, path):
    """Bring the contents of a checkpoint file to this project's names.

    Args:
        checkpoint (dict): as :func:`.reading.read_checkpoint` returns it.
        path (str): for messages.

    Returns:
        Source: of no format and with unchanged names if there is none that fits.

    Raises:
        UsageError: if there is no tensor, or a variant of the ResNet that detectron2's cannot be.
    """
    tensors = _tensors(checkpoint)
    if not tensors:
        raise UsageError(f"{path} holds no weights: {_entries(checkpoint)}.")
    source = _detectron2(checkpoint, tensors) or _caffe2(checkpoint, tensors) or _research(tensors, path)
    source = source or Source(None, tensors)
    source.match_suffixes |= bool(checkpoint.get("matching_heuristics")) or "model_state" in checkpoint
    if input_channels(source.state) not in (None, 3):
        source.convention = None  # the code that wrote the file takes colour images, as a rule
    source.convention = _stored(checkpoint) or source.convention
    return source


def _entries(checkpoint):
    """Return what a checkpoint has instead of weights, and where they may be."""
    if not checkpoint:
        return "it is an empty dictionary"
    nested = [str(key) for key, value in checkpoint.items() if isinstance(value, Mapping) and any(_flat(value))]
    if nested:
        return f"they lie deeper, below {', '.join(nested[:3])}: save the state dict to use alone, by torch.save"
    return f"its entries are {', '.join(map(str, list(checkpoint)[:3]))}"


def _stored(checkpoint):
    return InputConvention.from_dict(checkpoint.get("input"))


def _tensors(checkpoint):
    """Return the tensors of a checkpoint by name, without the wrappers of parallel and of compiled modules."""
    tensors = dict(_flat(_state(checkpoint)))
    plain = {name: _WRAPPER.sub("", name) for name in tensors}
    if len(set(plain.values())) == len(plain):
        tensors = {plain[name]: value for name, value in tensors.items()}
    return {name: torch.as_tensor(value) for name, value in tensors.items()}


def _state(checkpoint):
    """Return the entry of a checkpoint that has its weights; all of it if there is none."""
    for path in _CONTAINERS:
        entry = checkpoint
        for key in path.split("."):
            entry = entry.get(key) if isinstance(entry, Mapping) else None
        if isinstance(entry, Mapping):
            return entry
    networks = {key: checkpoint[key] for key in ("teacher", "student") if isinstance(checkpoint.get(key), Mapping)}
    return networks or {key: value for key, value in checkpoint.items() if not isinstance(value, Mapping)}


def _flat(state, prefix=""):
    """Yield (name, tensor) of nested dictionaries, names joined by dots."""
    for name, value in state.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif _is_numbers(value):
            yield prefix + name, value


def _is_numbers(value):
    return isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _detectron2(checkpoint, tensors):
    """Files with detectron2's names of a ResNet, of this project or another, with or without ``backbone.``."""
    own = any(name.startswith(TARGET) for name in tensors) or _stored(checkpoint) is not None
    prefixes = [p for p in ("backbone.bottom_up.", ONLINE, "bottom_up.", "") if f"{p}res2.0.conv1.weight" in tensors]
    if not prefixes:
        # Networks without ResNet names: those of this project, which says so in its files.
        is_model = own and any(name.startswith(ONLINE) for name in tensors)
        is_model = is_model and not any(form.online + _FIRST_BLOCK in tensors for form in FORMATS)
        return Source("pixpro_d2 checkpoint", tensors) if is_model else None
    author = checkpoint.get("__author__")
    convention = TORCHVISION if author in _TORCHVISION_AUTHORS else None
    if prefixes[0].startswith(ONLINE):
        name = "pixpro_d2 checkpoint" if own else f"detectron2 checkpoint{f' by {author}' if author else ''}"
        return Source(name, _with_res5(tensors), convention)
    return Source(f"detectron2 weights{f' by {author}' if author else ''}", _placed(tensors), convention)


def _with_res5(tensors):
    """A C4 detector's weights with res5 back in the backbone, where it keeps all but the norm behind it."""
    if any(re.match(r"backbone\.(bottom_up\.)?res5\.", name) for name in tensors):
        return tensors
    return {re.sub(r"^roi_heads\.(res5\.\d)", rf"{ONLINE}\1", name): value for name, value in tensors.items()}


def _placed(tensors):
    """Names of a ResNet and its FPN without prefix, or with ``bottom_up.``, in the backbone."""
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


def _caffe2(checkpoint, tensors):
    """Pickles of Caffe2's Detectron, of a network for ImageNet or a detector (which has ``blobs``)."""
    if "res2_0_branch2b_w" not in tensors:
        return None
    weight = tensors["res2_0_branch2b_w"]
    group_norm = any("_gn_" in name for name in tensors)
    plain = weight.shape[0] == weight.shape[1] and not group_norm
    # MSRA's files have a bias of the first convolution, which their networks do not use either.
    blobs = {name: value for name, value in tensors.items() if not name.endswith("_momentum") and name != "conv1_b"}
    state = _placed(convert_c2_detectron_names(blobs)[0])
    # ResNeXt, group norm and detectors come in several conventions.
    convention = MSRA if plain and "blobs" not in checkpoint else None
    return Source("Caffe2 (MSRA, FAIR)", state, convention, match_suffixes=True, folded_norms=not group_norm)


def _research(tensors, path):
    prefixes = [name.removesuffix(_FIRST_BLOCK) for name in tensors if f".{name}".endswith(f".{_FIRST_BLOCK}")]
    # The only ResNet of a file is meant, whatever it is called.
    only = [Format(f"ResNet below {prefixes[0]}", prefixes[0])] if len(prefixes) == 1 else []
    for form in (*FORMATS, *only):
        if not all(any(name.startswith(prefix) for name in tensors) for prefix in form.beside):
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
        state = {renamed.get(name, name): value for name, value in tensors.items()}
        return Source(form.name, state, TORCHVISION)
    return None


def _resnet(tensors, prefix, path):
    """dict from the names below ``prefix`` to detectron2's names, None if there is no torchvision-like ResNet.

    Raises:
        UsageError: for a ResNet with parts that detectron2's plain one does not have.
    """
    inner = {name: name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    if f"{prefix}4.0.conv1.weight" in inner and f"{prefix}0.weight" in inner:
        inner = {name: resnet_names.from_sequential(short) for name, short in inner.items()}
    elif f"{prefix}{_FIRST_BLOCK}" not in inner:
        return None
    inner = {name: short for name, short in inner.items() if short and re.match(r"(conv1|bn1|layer\d)\.", short)}
    renamed = {name: resnet_names.to_detectron2(short) for name, short in inner.items()}
    odd = next((name for name, ours in renamed.items() if ours is None), None)
    if odd is None and f"{prefix}layer1.0.downsample.1.weight" in inner:
        shortcut = f"{prefix}layer1.0.downsample.1.weight"
        odd = shortcut if tensors[shortcut].ndim != 1 else None  # the -D variant: pooling comes first
    if odd:
        raise UsageError(
            f"{path} holds a variant of ResNet that this project cannot take over ({odd} is in no plain ResNet): use "
            "weights of one with a 7x7 stem and without additions to its blocks."
        )
    return renamed
