"""Features of a backbone: their channels, and the last one below an FPN."""

from ..utils.errors import UsageError


def feature_channels(backbone, names):
    """Channels of the features ``names`` of a backbone, dict[str, int].

    Raises:
        UsageError: for a feature that the backbone does not have.
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


def bottom_up(backbone):
    """The network below an FPN, or the backbone itself."""
    return getattr(backbone, "bottom_up", backbone)


def last_feature_channels(backbone):
    """Channels of the bottom-up network's last feature (C5 of a ResNet)."""
    return list(bottom_up(backbone).output_shape().values())[-1].channels


def forward_with_last(backbone, images):
    """Run a backbone on (N, C, H, W) images; returns its features and the bottom-up network's last one.

    An FPN does not hand on what it is built on, hence the hook.
    """
    below = bottom_up(backbone)
    last = list(below.output_shape())[-1]
    if below is backbone:
        features = backbone(images)
        return features, features[last]
    seen = {}
    hook = below.register_forward_hook(lambda module, inputs, output: seen.update(output))
    try:
        features = backbone(images)
    finally:
        hook.remove()
    return features, seen[last]
