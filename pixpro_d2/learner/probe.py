"""Shapes of a network's features, found without a change of the network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..utils.errors import UsageError
from ..utils.modules import device_of, eval_mode

if TYPE_CHECKING:
    from detectron2.modeling import Backbone


def layer_label(path: str) -> str:
    """Return the name of the layer at ``path`` in error messages."""
    return f"Layer '{path}'" if path else "The network itself"


def empty_images(network: nn.Module, in_channels: int, image_size: tuple[int, int]) -> Tensor:
    """Return two black images (2, in_channels, *image_size) on the network's device."""
    return torch.zeros(2, in_channels, *image_size, device=device_of(network))


@torch.no_grad()
def probe(features: nn.Module, in_channels: int, image_size: tuple[int, int]) -> dict[str, torch.Size]:
    """Run ``features`` on empty images in eval mode, so that no norm of the network changes.

    Args:
        features: images to a dict of tensors.
        in_channels: channels of the images.
        image_size: (height, width).

    Returns:
        The shape of each feature for two images.
    """
    with eval_mode(features):
        outputs = features(empty_images(features, in_channels, image_size))
    return {name: output.shape for name, output in outputs.items()}


def is_detectron2_backbone(net: torch.nn.Module) -> bool:
    """Return whether a network is a detectron2 Backbone; a program without detectron2 has none."""
    return any(
        kind.__name__ == "Backbone" and kind.__module__.startswith("detectron2.modeling") for kind in type(net).__mro__
    )


def check_backbone(
    backbone: "Backbone",
    layers: Sequence[str],
    instance_layer: str | int | None,
    in_channels: int,
    image_size: tuple[int, int],
) -> None:
    """Raise a UsageError unless ``layers`` are feature maps of a detectron2 Backbone for images of this size."""
    names = ", ".join(backbone.output_shape())
    for layer in layers:
        if layer not in backbone.output_shape():
            raise UsageError(f"The detectron2 backbone has no feature {layer!r}: choose from {names}.")
    if instance_layer is not None:
        raise UsageError(
            "instance_layer is not for a detectron2 Backbone, which always uses its last feature: omit instance_layer."
        )
    divisor = max(backbone.size_divisibility, 1)
    if any(side % divisor for side in image_size):
        raise UsageError(f"image_size is {image_size}; this backbone needs multiples of {divisor}.")
    shapes = probe(backbone, in_channels, image_size)
    for layer in layers:
        check_map(f"Feature '{layer}'", shapes[layer], image_size)


def check_map(name: str, shape: torch.Size, image_size: tuple[int, int], may_be_pooled: bool = False) -> None:
    """Raise a UsageError unless ``shape`` is the shape of a feature map with more than one pixel.

    Args:
        name: name of the layer in the error message.
        shape: shape of the layer's output for two images.
        image_size: (height, width) of the images.
        may_be_pooled: whether the map may have one pixel, as for the instance loss.
    """
    height, width = image_size
    needs = f"the {'instance' if may_be_pooled else 'pixel'} loss needs"
    if len(shape) != 4 or shape[0] != 2:
        advice = ", or give patch_size if these are the tokens of a vision transformer" if len(shape) == 3 else ""
        raise UsageError(
            f"{name} gives a tensor of shape {tuple(shape)} for two images, but {needs} feature maps "
            f"(N, C, H, W): choose a layer before the network flattens or reshapes its features{advice}."
        )
    if shape[2] * shape[3] == 1 and not may_be_pooled:
        raise UsageError(
            f"{name} gives a feature map of 1 x 1 pixel for views of {height} x {width} pixels, which has no pixels "
            "to compare: choose a layer before the pooling, or a larger image_size."
        )
    if _is_grid(shape[1], shape[2], image_size) and not _is_grid(shape[2], shape[3], image_size):
        raise UsageError(
            f"{name} gives a tensor of shape {tuple(shape)}, whose channels seem to come last, but {needs} "
            "(N, C, H, W): choose a layer that permutes them, or add one."
        )


def _is_grid(rows: int, columns: int, image_size: tuple[int, int]) -> bool:
    """Return whether a grid has the proportions of the images, up to one cell that a rounding may add."""
    height, width = image_size
    return abs(rows * width - columns * height) < max(height, width)


def check_copy(copied: nn.Module, net: nn.Module, in_channels: int, image_size: tuple[int, int]) -> None:
    """Raise a UsageError if a copy of the features of a network runs the network itself.

    A copy has the same functions. A module whose ``forward`` was replaced by a function that names the network, such as
    ``net.forward = lambda x: net.forward_features(x)``, runs the network in every copy.

    Args:
        copied: the copy of the features.
        net: the network.
        in_channels, image_size: as for :func:`probe`.
    """
    if not any("forward" in vars(module) for module in net.modules()):
        return
    ran: list[bool] = []
    hooks = [module.register_forward_pre_hook(lambda *_: ran.append(True)) for module in net.modules()]
    try:
        probe(copied, in_channels, image_size)
    except UsageError:  # the copy's layers were not run
        ran.append(True)
    finally:
        for hook in hooks:
            hook.remove()
    if ran:
        raise UsageError(
            "The forward of the network is a function that names the network, so that a copy runs the network itself: "
            "make it a method of a class."
        )
