"""A frozen network whose features a student learns; it is no part of the student's model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...utils.errors import UsageError
from ...utils.modules import device_of
from ...utils.precision import half_precision


@dataclass(frozen=True)
class InputNormalization:
    """Describe what a network takes: (pixels - mean) / std for each channel.

    Attributes:
        format: order of the channels, RGB, BGR or L (grey).
        mean, std: one value for each channel, in the order of ``format``.
    """

    format: str
    mean: Sequence[float]
    std: Sequence[float]

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"{self.format} of mean {mean} and standard deviation {std}"


class InputConversion:
    """Turn images that are normalised for one network into images that are normalised for another network."""

    def __init__(self, theirs: InputNormalization, ours: InputNormalization) -> None:
        """
        Args:
            theirs: of the given images.
            ours: of the result, with means in the same unit.

        Raises:
            UsageError: if the given images have colours and the result has none.
        """
        if len(theirs.mean) != len(ours.mean) and len(theirs.mean) != 1:
            raise UsageError(
                f"The teacher takes images of {len(ours.mean)} channels, but the views have {len(theirs.mean)}: choose "
                "a teacher for such images."
            )
        self.channels = len(ours.mean)
        self.repeats = len(theirs.mean) != self.channels
        self.flips = not self.repeats and theirs.format != ours.format  # RGB and BGR
        order = -1 if self.flips else 1
        their_mean, their_std = (
            torch.tensor(values[::order]).expand(self.channels) for values in (tuple(theirs.mean), tuple(theirs.std))
        )
        mean, std = torch.tensor(tuple(ours.mean)), torch.tensor(tuple(ours.std))
        self.scale = (their_std / std).view(-1, 1, 1)
        self.shift = ((their_mean - mean) / std).view(-1, 1, 1)

    @property
    def is_identity(self) -> bool:
        """Return whether images stay as they are."""
        return not (self.flips or self.repeats or self.shift.any() or (self.scale != 1).any())

    def __call__(self, images: Tensor) -> Tensor:
        """Convert images (N, C, H, W); a grey image becomes equal channels."""
        if self.scale.device != images.device:
            self.scale, self.shift = (x.to(images.device, non_blocking=True) for x in (self.scale, self.shift))
        images = images.flip(1) if self.flips else images.expand(-1, self.channels, -1, -1)
        return images * self.scale + self.shift


class Teacher:
    """Give the features of a frozen network, without gradient and in half precision where the device has it.

    A teacher is no ``nn.Module``. A model that holds a teacher therefore has none of its tensors among its parameters
    and in its checkpoints, and changes neither the teacher's mode nor its device. A network that a module of the user
    has put back into train mode is put into eval mode again before it runs.
    """

    def __init__(self, network: nn.Module, conversion: InputConversion, channels: int) -> None:
        """
        Args:
            network: normalised images (N, C, H, W) to a feature map (N, channels, h, w). It is put into eval mode, and
                its parameters take no gradient any more.
            conversion: from the student's images to the network's.
            channels: channels of the map.
        """
        self.network = network.eval()
        for parameter in network.parameters():  # a TorchScript module has no requires_grad_
            parameter.requires_grad_(False)
        self.conversion = conversion
        self.channels = channels
        self._device: torch.device | None = None

    @torch.compiler.disable  # a compiled graph could not move the network, and a TorchScript module has its own graph
    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the map (N, channels, h, w) of images that are normalised for the student."""
        if self._device != images.device:
            self._device = images.device
            self.network.to(images.device)
        if any(getattr(part, "training", False) for part in self.network.modules()):  # frozen TorchScript has no mode
            self.network.eval()
        images = self.conversion(images.float())
        dtype = half_precision(images.device)
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
            return self.network(images)


@torch.no_grad()
def probe_teacher(
    network: nn.Module,
    channels: int,
    image_size: tuple[int, int],
    name: str,
    advice: str = "wrap the teacher in a module that returns such a map",
) -> torch.Size:
    """Run a network on two black images (2, channels, *image_size) in eval mode, and return the shape of its map.

    Args:
        name: name of the teacher in the error messages.
        advice: what to do if the output is no map.

    Raises:
        UsageError: if the network does not give a map (2, C, h, w).
    """
    images = torch.zeros(2, channels, *image_size, device=device_of(network))
    try:
        output = network.eval()(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = " ".join((str(error).strip().splitlines() or [type(error).__name__])[-1].split()).removesuffix(".")
        raise UsageError(
            f"{name} cannot be run on images of shape {tuple(images.shape)} ({reason}): choose a teacher that takes "
            "views of this size."
        ) from error
    if not torch.is_tensor(output) or output.dim() != 4 or len(output) != 2:
        given = f"a tensor of shape {tuple(output.shape)}" if torch.is_tensor(output) else f"a {type(output).__name__}"
        raise UsageError(
            f"{name} gives {given} for two images, but the student needs a feature map (N, C, h, w): {advice}."
        )
    return output.shape
