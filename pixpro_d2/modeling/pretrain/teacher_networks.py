"""The networks that may teach: a network of timm, a run of this project, or a TorchScript file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor, nn

from ...checkpoint.convention import TORCHVISION, InputConvention
from ...checkpoint.folder import last_name
from ...checkpoint.initialize import initialize
from ...checkpoint.timm_networks import convention_of
from ...config import default_config
from ...utils.errors import UsageError
from ..backbone import bottom_up
from ..timm_backbone import NAMES, TimmBackbone

KEY = "MODEL.PIXPRO.DISTILL"
SCRIPTS = (".pt", ".ts")
CONFIG, FINAL = "config.yaml", "model_final.pth"


@dataclass(frozen=True)
class FrozenNetwork:
    """Hold a network that may teach.

    Attributes:
        network: normalised images (N, C, H, W) to a feature map (N, D, h, w).
        input: what the network takes.
        divisor: the sides of images must be multiples of this.
        description: kind and feature, for the log.
    """

    network: nn.Module
    input: InputConvention
    divisor: int
    description: str


def open_teacher(name: str, weights: str, feature: str) -> FrozenNetwork:
    """Load a network with its weights.

    Args:
        name: MODEL.PIXPRO.DISTILL.TEACHER, see there.
        weights: file of weights for a network of timm.
        feature: name of the feature; "" for the last one of the network, below an FPN if there is one.

    Raises:
        UsageError: if a file is missing or damaged, if the weights do not fit, or if there is no such feature.
    """
    if not name:
        raise UsageError(
            f"{KEY}.TEACHER is empty, but {KEY}.WEIGHT is above 0: name a network of timm, the folder of a run or a "
            "TorchScript file."
        )
    path = Path(name)
    if path.is_dir():
        open_network: Callable[..., FrozenNetwork] = _open_run
    elif path.suffix in SCRIPTS:
        open_network = _open_script
    elif len(path.parts) > 1:
        raise UsageError(f"{KEY}.TEACHER is {name}, but there is no such folder: name the folder of a run.")
    else:
        return _open_timm(name, weights, feature)
    if weights:
        raise UsageError(f"{KEY}.WEIGHTS is for networks of timm only, {name} has weights of its own: set it to ''.")
    return open_network(path, feature)


def _open_timm(name: str, weights: str, feature: str) -> FrozenNetwork:
    with _keys_of_teachers():
        backbone = TimmBackbone(name, out_features=[feature] if feature else [])  # later stages would run in vain
    if not weights:
        raise UsageError(
            f"{KEY}.WEIGHTS is empty, and a teacher with random weights teaches nothing: name a file of weights of "
            f"timm's {name}."
        )
    # A file of student and teacher, such as DINO's, has another input than timm's own weights of the network.
    convention = _load(backbone, weights) or convention_of(backbone.net)
    return _with_feature(backbone, feature, convention, f"timm's {name}")


def _open_run(folder: Path, feature: str) -> FrozenNetwork:
    """Load the backbone of a run of this project, with any task."""
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{KEY}.TEACHER {folder} is not the folder of a run: it has no {CONFIG}.")
    checkpoint = folder / FINAL
    if not checkpoint.is_file():
        last = last_name(str(folder))
        if not last:
            raise UsageError(f"{KEY}.TEACHER {folder} has no checkpoint yet: choose a run that has saved one.")
        checkpoint = folder / last
    cfg = _config(folder / CONFIG)
    # Any stage of a ResNet can teach, whichever the run's own task needed.
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone" and feature in NAMES.values():
        cfg.MODEL.RESNETS.OUT_FEATURES = [feature]
    backbone = build_backbone(cfg)
    _load(backbone, str(checkpoint))
    return _with_feature(backbone, feature, InputConvention.from_config(cfg), f"the backbone of {checkpoint}")


def _config(path: Path) -> CfgNode:
    """Return the config of a run, which has all keys; keys of another version of detectron2 are kept."""
    cfg = default_config()
    cfg.set_new_allowed(True)
    try:
        cfg.merge_from_file(str(path))
    except Exception as error:  # detectron2 may raise any exception for a file that is no config
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{KEY}.TEACHER: {path} is no config of a run ({reason}): name another folder.") from error
    return cfg


def _open_script(path: Path, feature: str) -> FrozenNetwork:
    """Load a TorchScript module; its input is ImageNet's, because the file does not say."""
    if not path.is_file():
        raise UsageError(f"{KEY}.TEACHER is {path}, but there is no such file: name a TorchScript file.")
    if feature:
        raise UsageError(f"{KEY}.FEATURE is '{feature}', but a TorchScript file gives one map: set it to ''.")
    try:
        network = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"{KEY}.TEACHER {path} is no TorchScript file: save the network by torch.jit.script or torch.jit.trace."
        ) from error
    return FrozenNetwork(network, TORCHVISION, 1, "a TorchScript module, with ImageNet's mean and deviation")


class _Feature(nn.Module):
    """Return one feature of a backbone."""

    def __init__(self, backbone: Backbone, name: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)[self.name]


def _with_feature(backbone: Backbone, feature: str, convention: InputConvention, description: str) -> FrozenNetwork:
    """Choose a feature of a backbone, or of the network below its FPN; the FPN then does not run."""
    below = bottom_up(backbone)
    names = {name: network for network in (backbone, below) for name in network.output_shape()}
    feature = feature or list(below.output_shape())[-1]
    if feature not in names:
        raise UsageError(f"{KEY}.FEATURE is '{feature}', but {description} has {', '.join(names)}: choose from these.")
    network = names[feature]
    divisor = max(network.size_divisibility, 1)
    return FrozenNetwork(_Feature(network, feature), convention, divisor, f"{description}, feature {feature}")


def _load(backbone: Backbone, path: str) -> InputConvention | None:
    """Load all weights of a backbone, and of its FPN, from a file; return the input of the weights if it is known.

    Raises:
        UsageError: if the file is missing or damaged, or lacks a weight.
    """
    with _keys_of_teachers("the teacher cannot be loaded: "):
        loaded = initialize(nn.ModuleDict({"backbone": backbone}), path, frozen=True)
    if loaded.missing:
        raise UsageError(
            f"{KEY}: {path} lacks {len(loaded.missing)} of the teacher's weights, such as {min(loaded.missing)}: name "
            "a file that holds the whole network."
        )
    return loaded.convention


@contextmanager
def _keys_of_teachers(words: str = "") -> Iterator[None]:
    """Let a UsageError name the keys of the teacher instead of the same keys of the student; ``words`` come first."""
    try:
        yield
    except UsageError as error:
        reason = str(error).replace("MODEL.TIMM.NAME", f"{KEY}.TEACHER")
        raise UsageError(f"{KEY}: {words}{reason.replace('MODEL.TIMM.OUT_FEATURES', f'{KEY}.FEATURE')}") from error
