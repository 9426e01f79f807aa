"""Build the backbone of a checkpoint, with its pyramid, as a network that takes plain images."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor, nn

from ...checkpoint import export
from ...checkpoint.convention import InputConvention
from ...checkpoint.depth import resnet_options
from ...checkpoint.formats import Source, recognise
from ...checkpoint.reading import read_checkpoint
from ...checkpoint.tensors import check_tensors
from ...checkpoint.timm_networks import has_network, network_of
from ...engine.configuration.configure import load_config, resolve_sync_bn
from ...engine.configuration.registered import check_registered
from ...utils.errors import UsageError
from ...weights_files import weights_path

_STAGES = ["res2", "res3", "res4", "res5"]
_PLAIN = ("build_resnet_backbone", "build_resnet_deeplab_backbone")  # no part of these backbones chooses their features


class FeatureNetwork(nn.Module):
    """Compute the features of RGB images in [0, 1]; the normalisation of the training is part of the network.

    Attributes:
        names: names of the features, such as ``res5`` or ``p3``.
        channels: number of channels of the images.
        divisor: number that divides the height and width of the images.
        pixel_range: INPUT.PIXEL_RANGE of the training.
        max_image_pixels: DATALOADER.MAX_IMAGE_PIXELS of the training.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        convention: InputConvention,
        pixel_range: tuple[float, ...],
        max_image_pixels: int,
    ) -> None:
        """
        Args:
            backbone: a backbone of detectron2.
            convention: input that the backbone was trained with.
            pixel_range, max_image_pixels: see the attributes.
        """
        super().__init__()
        self.backbone = backbone
        self.flips = convention.format == "BGR"
        shapes = backbone.output_shape()
        self.names = list(shapes)
        self.pixel_range = pixel_range
        self.max_image_pixels = max_image_pixels
        self.channels = len(convention.pixel_mean)
        self.divisor: int = backbone.size_divisibility or max(shape.stride for shape in shapes.values())
        for name, values in (("mean", convention.pixel_mean), ("std", convention.pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1) / 255)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of images (N, C, H, W), in the order of ``names``."""
        images = images.flip(1) if self.flips else images
        return tuple(self.backbone((images - self.mean) / self.std).values())


def load_network(path: str, branch: str = "online", config_file: str = "", with_fpn: bool = True) -> FeatureNetwork:
    """Load the backbone of a checkpoint.

    Args:
        path: checkpoint in any format that MODEL.WEIGHTS takes.
        branch: ``online`` or ``target``.
        config_file: config of the network; "" for the ``config.yaml`` beside a checkpoint of this project or a file of
            timm, or else for the ResNet that the tensors belong to.
        with_fpn: keep the FPN, if there is one.

    Raises:
        UsageError: if the file is no checkpoint, or its network or input cannot be told.
    """
    path = weights_path(path)
    checkpoint = read_checkpoint(path)
    source = _known(checkpoint, path)
    config_file = config_file or _config_beside(source, path)
    cfg = _config_of_file(config_file) if config_file else None
    if cfg is not None:
        check_registered(cfg)
    # Only a config tells the network of a file with the names of timm.
    network = build_backbone(cfg) if cfg is not None and cfg.MODEL.TIMM.NAME else None
    if source is None or (network is not None and not has_network(source.state)):
        source = recognise(checkpoint, path, network and network_of(nn.ModuleDict({"backbone": network})))
    backbone = export.backbone_of(source, branch, path)
    check_tensors({**backbone.trunk, **backbone.pyramid}, path)
    cfg = cfg or _config_of_tensors(source, backbone, path)
    convention = source.convention or InputConvention.from_config(cfg)
    if convention.stride_in_1x1 is not None:  # the tensors fit both places of the stride
        cfg.MODEL.RESNETS.STRIDE_IN_1X1 = convention.stride_in_1x1
    network = build_backbone(cfg) if network is None else network
    if not backbone.pyramid and hasattr(network, "bottom_up"):  # a file converted without its FPN
        network = network.bottom_up
    _load(network, backbone, f"{path} does not fit {config_file or 'a plain ResNet'}")
    if backbone.pyramid and not with_fpn:
        network = network.bottom_up
    pixel_range = tuple(cfg.INPUT.PIXEL_RANGE) or convention.pixel_range or ()
    return FeatureNetwork(network, convention, pixel_range, cfg.DATALOADER.MAX_IMAGE_PIXELS)


def _known(checkpoint: dict[str, Any], path: str) -> Source | None:
    """Return the tensors of a checkpoint by this project's names; None for a ResNet that only timm has."""
    try:
        return recognise(checkpoint, path)
    except UsageError:
        return None


def _config_beside(source: Source | None, path: str) -> str:
    """Return the path of the config of a checkpoint's run; "" if there is none, or if it is of another program.

    The config counts for a checkpoint of this project, and for a file of timm if the config names a network of timm.
    """
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), "config.yaml")
    if not os.path.isfile(beside):
        return ""
    if source is not None and source.format is not None:
        return beside if source.format.startswith("pixpro_d2") else ""
    try:
        return beside if _config_of_file(beside).MODEL.TIMM.NAME else ""
    except UsageError:
        return ""


def _config_of_file(path: str) -> CfgNode:
    """Return a config of a file, on the CPU, with all stages of a ResNet as features."""
    cfg = load_config(path, ["MODEL.DEVICE", "cpu"])
    resolve_sync_bn(cfg)
    if cfg.MODEL.BACKBONE.NAME in _PLAIN:
        cfg.MODEL.RESNETS.OUT_FEATURES = _STAGES
    return cfg


def _config_of_tensors(source: Source, backbone: export.Backbone, path: str) -> CfgNode:
    """Return a config of the ResNet that the tensors of a file belong to.

    Raises:
        UsageError: if the tensors belong to no plain ResNet with batch norms, or the input is unknown.
    """
    advice = "name the config of its training with --config-file"
    trunk, options = backbone.trunk, resnet_options(backbone.trunk)
    if not options:
        raise UsageError(f"The backbone of {path} is no plain ResNet: {advice}.")
    if "stem.conv1.norm.running_mean" not in trunk and not source.folded_norms:
        raise UsageError(f"The norms of the backbone of {path} have no statistics: {advice}.")
    if source.convention is None:
        raise UsageError(f"{path} does not say which input its backbone takes: {advice}.")
    cfg = load_config("", ["MODEL.DEVICE", "cpu", *(word for pair in options.items() for word in pair)])
    resnets, pyramid = cfg.MODEL.RESNETS, backbone.pyramid
    resnets.NORM, resnets.OUT_FEATURES = "FrozenBN", _STAGES
    resnets.STRIDE_IN_1X1 = bool(source.convention.stride_in_1x1)
    resnets.STEM_OUT_CHANNELS = trunk["stem.conv1.weight"].shape[0]
    if "res2.0.conv3.weight" in trunk:  # the number of groups, of ResNeXt
        resnets.NUM_GROUPS = trunk["res2.0.conv1.weight"].shape[0] // trunk["res2.0.conv2.weight"].shape[1]
        resnets.WIDTH_PER_GROUP = trunk["res2.0.conv2.weight"].shape[0] // resnets.NUM_GROUPS
    cfg.MODEL.PIXEL_MEAN = list(source.convention.pixel_mean)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    if pyramid:
        has_more = any(name.startswith("top_block.") for name in pyramid)
        cfg.MODEL.BACKBONE.NAME = f"build_{'retinanet_' if has_more else ''}resnet_fpn_backbone"
        cfg.MODEL.FPN.IN_FEATURES = [stage for stage in _STAGES if f"fpn_lateral{stage[-1]}.weight" in pyramid]
        cfg.MODEL.FPN.OUT_CHANNELS = pyramid["fpn_output5.weight"].shape[0]
        norm = "FrozenBN" if "fpn_output5.norm.running_mean" in pyramid else "GN"
        cfg.MODEL.FPN.NORM = norm if "fpn_output5.norm.weight" in pyramid else ""
        resnets.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES
    return cfg


def _load(network: nn.Module, backbone: export.Backbone, mismatch: str) -> None:
    """Load all weights into a network.

    Raises:
        UsageError: if a weight is missing, has another shape, or has no place; the message starts with ``mismatch``.
    """
    place = "bottom_up." if backbone.pyramid else ""
    tensors: Mapping[str, Tensor] = {f"{place}{name}": value for name, value in backbone.trunk.items()}
    tensors = {**tensors, **backbone.pyramid}
    own = network.state_dict()
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # norms without them have folded ones
    wrong = [name for name in own if name not in tensors and not name.endswith(statistics)]
    wrong += [name for name, value in tensors.items() if name in own and own[name].shape != value.shape]
    wrong += [name for name in tensors if name not in own and not name.endswith("num_batches_tracked")]
    if wrong:
        raise UsageError(f"{mismatch} ({wrong[0]} differs): name the config of its training with --config-file.")
    network.load_state_dict({name: value for name, value in tensors.items() if name in own}, strict=False)
