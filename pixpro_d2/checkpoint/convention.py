"""What a network's weights expect of its input and of its variant, which their names and shapes do not tell."""

from dataclasses import asdict, dataclass, fields

_TOLERANCE = 1.0  # between two means or standard deviations that count as the same, of values in [0, 255]
_KEYS = {
    "format": "INPUT.FORMAT",
    "pixel_mean": "MODEL.PIXEL_MEAN",
    "pixel_std": "MODEL.PIXEL_STD",
    "stride_in_1x1": "MODEL.RESNETS.STRIDE_IN_1X1",
}


@dataclass(frozen=True)
class InputConvention:
    """Input and stride that weights were trained with.

    Attributes:
        format (str): order of the channels, ``INPUT.FORMAT``.
        pixel_mean, pixel_std (tuple[float]): normalisation, in that order, of values in [0, 255].
        stride_in_1x1 (bool or None): whether a bottleneck's first convolution has the stride; None for networks
            without bottlenecks.
    """

    format: str
    pixel_mean: tuple
    pixel_std: tuple
    stride_in_1x1: bool | None = None

    @classmethod
    def from_config(cls, cfg):
        """The convention of the models that ``cfg`` builds."""
        bottlenecks = "resnet" in cfg.MODEL.BACKBONE.NAME and cfg.MODEL.RESNETS.DEPTH >= 50
        return cls(
            format=cfg.INPUT.FORMAT,
            pixel_mean=tuple(map(float, cfg.MODEL.PIXEL_MEAN)),
            pixel_std=tuple(map(float, cfg.MODEL.PIXEL_STD)),
            stride_in_1x1=bool(cfg.MODEL.RESNETS.STRIDE_IN_1X1) if bottlenecks else None,
        )

    @classmethod
    def from_dict(cls, values):
        """Inverse of :meth:`to_dict`; None for anything else that a foreign file keeps under the same name."""
        if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
            return None
        return cls(
            **{name: tuple(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()}
        )

    def to_dict(self):
        """Plain values, fit for ``torch.load(weights_only=True)`` and JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def keys_to_set(self, other):
        """Config keys, with values, that make a config of the convention ``other`` one of this convention."""
        return {_KEYS[name]: value for name, value in self.to_dict().items() if self._differs(name, other)}

    def _differs(self, name, other):
        ours, theirs = getattr(self, name), getattr(other, name)
        if name == "stride_in_1x1":
            return None not in (ours, theirs) and ours != theirs
        if name == "format":
            return ours != theirs
        return len(ours) != len(theirs) or any(abs(a - b) > _TOLERANCE for a, b in zip(ours, theirs))

    def __str__(self):
        stride = "" if self.stride_in_1x1 is None else f", STRIDE_IN_1X1 {self.stride_in_1x1}"
        return f"{self.format} of mean {list(self.pixel_mean)} and std {list(self.pixel_std)}{stride}"


def as_options(keys):
    """Config keys and values as one writes them behind ``train_net.py``."""
    return " ".join(f'{key} "{value}"' if isinstance(value, list) else f"{key} {value}" for key, value in keys.items())


# torchvision, timm and all self-supervised code bases that are read; detectron2's conversions of them.
TORCHVISION = InputConvention("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False)
# detectron2's ImageNetPretrained/MSRA, its default config.
MSRA = InputConvention("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), True)
