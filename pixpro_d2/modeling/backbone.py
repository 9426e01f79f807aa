"""Features of a backbone: their channels, and the last one below an FPN."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from ..utils.errors import UsageError

if TYPE_CHECKING:
    from detectron2.modeling import Backbone


Builder = TypeVar("Builder", bound=Callable[..., Any])


def register_backbone(build: Builder) -> Builder:
    """Register a function by its name in detectron2's BACKBONE_REGISTRY, and return the function.

    Raises:
        UsageError: if another module has registered a backbone of this name.
    """
    from detectron2.modeling import BACKBONE_REGISTRY  # PixelLearner uses this module without detectron2

    name = build.__name__
    if name in BACKBONE_REGISTRY:
        owner = BACKBONE_REGISTRY.get(name).__module__
        raise UsageError(
            f"Both {owner} and {build.__module__} register the backbone {name}: import only one of the two modules, or "
            "rename one of the two functions."
        )
    BACKBONE_REGISTRY.register(build)
    return build


def feature_channels(backbone: "Backbone", names: Sequence[str]) -> dict[str, int]:
    """Return the number of channels of each of the backbone's features ``names``.

    Raises:
        UsageError: if the backbone does not have a feature, or ``names`` is empty.
    """
    shapes = backbone.output_shape()
    for name in names:
        if name not in shapes:
            raise UsageError(
                f"MODEL.PIXPRO.IN_FEATURES names '{name}', but the backbone has {', '.join(shapes)}: choose from "
                "these, or add the feature to the backbone's OUT_FEATURES."
            )
    if not names:
        raise UsageError(f"MODEL.PIXPRO.IN_FEATURES is empty: choose from {', '.join(shapes)}.")
    return {name: shapes[name].channels for name in names}


def bottom_up(backbone: "Backbone") -> "Backbone":
    """Return the network below an FPN, or the backbone itself if it is no FPN."""
    return getattr(backbone, "bottom_up", backbone)


def derived_features(backbone: "Backbone") -> set[str]:
    """Return the features that an FPN makes of its others without weights, such as P6 by subsampling P5."""
    top = getattr(backbone, "top_block", None)
    if top is None or any(True for _ in top.parameters()):
        return set()
    return set(list(backbone.output_shape())[-top.num_levels :])


def last_feature_channels(backbone: "Backbone") -> int:
    """Return the number of channels of the bottom-up network's last feature (C5 of a ResNet)."""
    return list(bottom_up(backbone).output_shape().values())[-1].channels


def forward_with_last(backbone: "Backbone", images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Run a backbone on (N, C, H, W) images; return its features, and the last feature of the bottom-up network.

    An FPN does not return the features of the network below it, so a hook collects them.
    """
    below = bottom_up(backbone)
    last = list(below.output_shape())[-1]
    if below is backbone:
        features = backbone(images)
        return features, features[last]
    seen: dict[str, Tensor] = {}
    hook = below.register_forward_hook(lambda module, inputs, output: seen.update(output))
    try:
        features = backbone(images)
    finally:
        hook.remove()
    return features, seen[last]
