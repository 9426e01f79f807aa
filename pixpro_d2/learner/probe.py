"""Shapes of a network's features, found without leaving a trace in it."""

import torch

from ..utils.errors import UsageError
from ..utils.modules import device_of, eval_mode


def layer_label(path):
    """How an error names the layer at ``path``."""
    return f"Layer '{path}'" if path else "The network itself"


def empty_images(network, in_channels, image_size):
    """Two black images (2, in_channels, *image_size) on the network's device."""
    return torch.zeros(2, in_channels, *image_size, device=device_of(network))


@torch.no_grad()
def probe(features, in_channels, image_size):
    """Run ``features`` on empty images in eval mode, so that no norm of the network notices.

    Args:
        features (nn.Module): images to dict[str, Tensor].
        in_channels (int):
        image_size (tuple[int, int]): (height, width).

    Returns:
        dict[str, torch.Size]: shape of each feature for two images.
    """
    with eval_mode(features):
        outputs = features(empty_images(features, in_channels, image_size))
    return {name: output.shape for name, output in outputs.items()}


def is_detectron2_backbone(net: torch.nn.Module) -> bool:
    """Return whether a network is a detectron2 Backbone; a program without detectron2 has none."""
    return any(
        kind.__name__ == "Backbone" and kind.__module__.startswith("detectron2.modeling") for kind in type(net).__mro__
    )


def check_backbone(backbone, layers, instance_layer, in_channels, image_size):
    """Raise a UsageError unless ``layers`` are feature maps of a detectron2 Backbone for such images."""
    names = ", ".join(backbone.output_shape())
    for layer in layers:
        if layer not in backbone.output_shape():
            raise UsageError(f"The detectron2 backbone has no feature {layer!r}: choose from {names}.")
    if instance_layer is not None:
        raise UsageError("instance_layer is not for a detectron2 Backbone, whose last feature it is: leave it out.")
    divisor = max(backbone.size_divisibility, 1)
    if any(side % divisor for side in image_size):
        raise UsageError(f"image_size is {image_size}; this backbone needs multiples of {divisor}.")
    shapes = probe(backbone, in_channels, image_size)
    for layer in layers:
        check_map(f"Feature '{layer}'", shapes[layer], image_size)


def check_map(name, shape, image_size):
    """Raise a UsageError unless ``shape`` is that of a feature map with more than one pixel.

    Args:
        name (str): how to name the layer.
        shape (torch.Size): of its output for images of ``image_size`` (height, width).
    """
    height, width = image_size
    if len(shape) != 4 or shape[0] != 2:
        raise UsageError(
            f"{name} gives a tensor of shape {tuple(shape)} for two images, but the pixel loss needs feature maps "
            "(N, C, H, W): choose a layer before the network flattens or reshapes its features."
        )
    if shape[2] * shape[3] == 1:
        raise UsageError(
            f"{name} gives a feature map of 1 x 1 pixel for views of {height} x {width} pixels, which has no pixels "
            "to compare: choose a layer before the pooling, or a larger image_size."
        )
    if shape[1] * width == shape[2] * height and shape[2] * width != shape[3] * height:
        raise UsageError(
            f"{name} gives a tensor of shape {tuple(shape)}, whose channels seem to come last, but the pixel loss "
            "needs (N, C, H, W): choose a layer that permutes them, or add one."
        )
