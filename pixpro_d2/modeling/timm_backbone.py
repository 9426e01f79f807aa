"""Backbones of timm (PyTorch Image Models): convolutional networks, Swin, plain vision transformers and others."""

import difflib
import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ..utils.errors import UsageError

# Feature of each stride, as in detectron2's ResNet, so that a config keeps its IN_FEATURES.
NAMES = {2: "stem", 4: "res2", 8: "res3", 16: "res4", 32: "res5"}
PLAIN = "last_feat"  # the only feature of a plain vision transformer, under detectron2's name
MAX_STRIDE = 32
# Options of the networks that have them: images of any size, nothing random, and no norm weight that starts at 0 unless
# MODEL.PIXPRO.ZERO_INIT_RESIDUAL asks for it.
OPTIONS = {"strict_img_size": False, "dynamic_img_size": True, "drop_path_rate": 0.0, "zero_init_last": False}


class TimmBackbone(Backbone):
    """Run a network of timm, and return its feature maps by name.

    The features of a network with stages are named like a ResNet's features of the same stride: ``stem`` (2), ``res2``
    (4) to ``res5`` (32). A plain vision transformer has one feature, ``last_feat``, after its last norm. The network
    itself is ``net``; below it, the names of the weights are timm's.
    """

    def __init__(
        self, name: str, in_channels: int = 3, out_features: Sequence[str] = (), output_stride: int = MAX_STRIDE
    ) -> None:
        """
        Args:
            name: name of the network in ``timm.list_models()``. A tag behind a dot, which names weights of timm, counts
                for the input only; no weights are loaded.
            in_channels: channels of the images.
            out_features: features to return; all by default.
            output_stride: stride of the last feature, 8, 16 or 32. A smaller stride dilates the last stages.

        Raises:
            UsageError: for a network that timm does not have, that lacks feature maps or one of the features, or that
                takes images of one size only.
        """
        super().__init__()
        planned, options = _plan(name, in_channels, output_stride)
        strides = [info["reduction"] for info in planned.feature_info]
        self.is_plain = len(set(strides)) == 1
        known = {PLAIN: len(strides) - 1} if self.is_plain else _named(name, strides)
        unknown = next((feature for feature in out_features if feature not in known), None)
        if unknown is not None:
            raise UsageError(
                f"MODEL.TIMM.OUT_FEATURES names '{unknown}', but {name} has {', '.join(known)}: choose from these."
            )
        chosen = {feature: index for feature, index in known.items() if not out_features or feature in out_features}
        self.name = name
        self._out_features = list(chosen)
        with torch.device("meta"):
            self._build(chosen.values(), options)
        _try_size(self, in_channels, strides[-1])
        self._build(chosen.values(), options)

    def _build(self, indices: Collection[int], options: dict[str, Any]) -> None:
        """Build the network up to the last of the features of these indices."""
        net = import_timm().create_model(self.name, pretrained=False, num_classes=0, **options)
        self._indices = net.prune_intermediate_layers(list(indices), prune_norm=not self.is_plain)
        if hasattr(net, "head"):
            net.head = nn.Identity()  # early versions of timm leave a norm in it, without a gradient
        self.net = net
        infos = [net.feature_info[index] for index in indices]
        self._shapes = {
            feature: ShapeSpec(channels=info["num_chs"], stride=info["reduction"])
            for feature, info in zip(self._out_features, infos)
        }

    @property
    def stages(self) -> list[nn.Module]:
        """Return the stages, or the blocks of a network without stages, in their order."""
        paths = [info["module"] for info in self.net.feature_info]
        parents = dict.fromkeys(path.rpartition(".")[0] for path in paths)
        found = [self.net.get_submodule(path) for path in paths] if "" in parents else []
        found += [child for parent in parents if parent for child in self.net.get_submodule(parent).children()]
        # A single layer, such as an activation, keeps its input anyway; a list of modules is not called.
        return [stage for stage in found if any(stage.children()) and not isinstance(stage, nn.ModuleList)]

    @property
    def size_divisibility(self) -> int:
        """Return the number of pixels that the sides of images must be a multiple of."""
        return max(shape.stride for shape in self._shapes.values())

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features (N, C, H / stride, W / stride) of images (N, in_channels, H, W).

        Raises:
            UsageError: for images whose sides the patches of a plain vision transformer do not divide.
        """
        height, width = images.shape[-2:]
        if self.is_plain and (height % self.size_divisibility or width % self.size_divisibility):
            raise UsageError(
                f"{self.name} has patches of {self.size_divisibility} pixels, which do not divide images of "
                f"{height} x {width} pixels: choose sides that are multiples of {self.size_divisibility}."
            )
        maps = self.net.forward_intermediates(
            images, indices=self._indices, norm=self.is_plain, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(self._out_features, maps))


def import_timm() -> Any:
    """Return the module timm.

    Raises:
        UsageError: if timm is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise UsageError("Networks of timm need timm: run pip install 'pixpro_d2[timm]'.") from error
    return timm


def _plan(name: str, in_channels: int, output_stride: int) -> tuple[Any, dict[str, Any]]:
    """Return the network without values, at stride 32, and the options that let it take images of any size."""
    timm = import_timm()
    if not timm.is_model(name):
        known = timm.list_models()
        similar = difflib.get_close_matches(name.split(".")[0], known, n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "timm.list_models() has the names."
        raise UsageError(f"timm {timm.__version__} has no network '{name}': {hint}")
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0)
    if not hasattr(network, "forward_intermediates"):
        raise UsageError(f"timm's {name} gives no feature maps: choose another network.")
    accepted = inspect.signature(type(network).__init__).parameters
    options = {option: value for option, value in OPTIONS.items() if option in accepted}
    options["in_chans"] = in_channels
    if output_stride != MAX_STRIDE:
        if "output_stride" not in accepted:
            raise UsageError(f"timm's {name} cannot dilate its stages: set MODEL.TIMM.OUTPUT_STRIDE 32.")
        options["output_stride"] = output_stride
    return network, options


def _try_size(backbone: TimmBackbone, in_channels: int, stride: int) -> None:
    """Check that a backbone without values takes images of a size of its own, and gives maps of the shapes it says.

    Raises:
        UsageError: otherwise.
    """
    height, width = 2 * stride, 3 * stride
    network = f"timm's {backbone.name}"
    backbone.eval()
    try:
        with torch.no_grad():
            maps = backbone(torch.zeros(1, in_channels, height, width, device="meta"))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:  # timm has no class of its own
        reason = " ".join(str(error).split()).removesuffix(".")
        raise UsageError(
            f"{network} does not take images of any size (with {height} x {width} pixels: {reason}): choose another "
            "network."
        ) from error
    finally:
        backbone.train()
    for name, shape in backbone.output_shape().items():
        expected = (1, shape.channels, height // shape.stride, width // shape.stride)
        if tuple(maps[name].shape) != expected:
            raise UsageError(
                f"{network} says that {name} has the shape {expected} for {height} x {width} pixels, but it has "
                f"{tuple(maps[name].shape)}: choose another network."
            )


def _named(name: str, strides: Sequence[int]) -> dict[str, int]:
    """Return the index of each feature by name; of two features with one stride, the later one counts."""
    named = {NAMES[stride]: index for index, stride in enumerate(strides) if stride in NAMES}
    if not named:
        raise UsageError(
            f"timm's {name} has features of the strides {', '.join(map(str, strides))}, none of which is "
            f"{', '.join(map(str, NAMES))}: choose another network."
        )
    return named
