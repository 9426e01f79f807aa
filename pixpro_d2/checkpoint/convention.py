"""The input and the network variant that weights expect; names and shapes of the weights do not show them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from detectron2.config import CfgNode

_PIXEL_TOLERANCE = 1.0  # means or standard deviations that differ by at most this count as equal, values in [0, 255]
_KEYS = {
    "format": "INPUT.FORMAT",
    "pixel_mean": "MODEL.PIXEL_MEAN",
    "pixel_std": "MODEL.PIXEL_STD",
    "stride_in_1x1": "MODEL.RESNETS.STRIDE_IN_1X1",
    "pixel_range": "INPUT.PIXEL_RANGE",
}


@dataclass(frozen=True)
class InputConvention:
    """Describe the input and the stride that weights were trained with.

    Attributes:
        format: order of the channels, ``INPUT.FORMAT``.
        pixel_mean, pixel_std: normalisation of values in [0, 255], in the order of ``format``.
        stride_in_1x1: whether a bottleneck's first convolution has the stride; None for networks
            without bottlenecks.
        pixel_range: values of deep images that become black and white; () for the range of the file format, None
            if unknown. Weights with a range need a range; other weights fit any range.
    """

    format: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    stride_in_1x1: bool | None = None
    pixel_range: tuple[float, ...] | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "InputConvention":
        """Return the convention of the models that ``cfg`` builds."""
        bottlenecks = "resnet" in cfg.MODEL.BACKBONE.NAME and cfg.MODEL.RESNETS.DEPTH >= 50
        return cls(
            format=cfg.INPUT.FORMAT,
            pixel_mean=tuple(map(float, cfg.MODEL.PIXEL_MEAN)),
            pixel_std=tuple(map(float, cfg.MODEL.PIXEL_STD)),
            stride_in_1x1=bool(cfg.MODEL.RESNETS.STRIDE_IN_1X1) if bottlenecks else None,
            pixel_range=tuple(map(float, cfg.INPUT.PIXEL_RANGE)),
        )

    @classmethod
    def from_dict(cls, values: object) -> "InputConvention | None":
        """Invert :meth:`to_dict`; return None for any other object, as foreign files may have under this name."""
        if not isinstance(values, dict) or {*values, "pixel_range"} != {field.name for field in fields(cls)}:
            return None  # a file of an earlier version has no range
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, (list, tuple)) else value for name, value in values.items()
        }
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``torch.load(weights_only=True)`` and JSON support."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def keys_to_set(self, other: "InputConvention") -> dict[str, Any]:
        """Return the config keys and values that change a config from the convention ``other`` to this convention."""
        return {_KEYS[name]: value for name, value in self.to_dict().items() if self._differs(name, other)}

    def _differs(self, name: str, other: "InputConvention") -> bool:
        ours, theirs = getattr(self, name), getattr(other, name)
        if name == "stride_in_1x1":
            return None not in (ours, theirs) and ours != theirs
        if name == "pixel_range":
            return bool(ours) and theirs == ()
        if name == "format":
            return ours != theirs
        return len(ours) != len(theirs) or any(abs(a - b) > _PIXEL_TOLERANCE for a, b in zip(ours, theirs))

    @property
    def scaling(self) -> str:
        """Return how a network without INPUT.PIXEL_RANGE gets images of this range; "" for weights without a range."""
        if not self.pixel_range:
            return ""
        low, high = self.pixel_range
        return (
            f"it takes images scaled by INPUT.PIXEL_RANGE, so that {low:g} becomes 0 and {high:g} becomes 1 before "
            "mean and standard deviation"
        )

    def __str__(self) -> str:
        stride = "" if self.stride_in_1x1 is None else f", STRIDE_IN_1X1 {self.stride_in_1x1}"
        values = f", PIXEL_RANGE {list(self.pixel_range)}" if self.pixel_range else ""
        return f"{self.format} of mean {list(self.pixel_mean)} and std {list(self.pixel_std)}{stride}{values}"


def as_options(keys: Mapping[str, Any]) -> str:
    """Format config keys and values as command-line options of ``train_net.py``."""
    return " ".join(f'{key} "{value}"' if isinstance(value, list) else f"{key} {value}" for key, value in keys.items())


# Convention of torchvision, timm and all supported self-supervised code, also after detectron2's conversion.
TORCHVISION = InputConvention("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False)
# The same for networks that have no bottlenecks.
IMAGENET = replace(TORCHVISION, stride_in_1x1=None)
# Convention of detectron2's ImageNetPretrained/MSRA and of its default config.
MSRA = InputConvention("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), True)
