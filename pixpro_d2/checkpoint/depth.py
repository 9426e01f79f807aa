"""Find the network that the tensors of a backbone belong to: its depth, and the channels of images and pyramid."""

import re
from collections.abc import Iterable, Mapping

import torch

# By depth: the numbers of blocks of the stages res2 to res5, and whether the blocks are bottlenecks.
_BLOCKS_BY_DEPTH = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
_STAGES = ("res2", "res3", "res4", "res5")
# Excluded from the trunk: a classifier that a converter calls `stem.fc`, and the norm after res5 in PixPro's C4 recipe.
_TRUNK = re.compile(
    r"(?:backbone\.)?(?:bottom_up\.|roi_heads\.(?=res5))?((stem|res[2-5]|s[1-4])\.(?!fc\.|norm\.)(?:b?(\d+)\.)?.+)"
)

_FPN_OUTPUT = re.compile(r"(?:backbone\.)?fpn_output\d\.weight")


def stage_of(name: str) -> str | None:
    """Return the stage (``stem``, ``res2``, ``s1``) of a tensor of a ResNet or RegNet; None for any other tensor."""
    match = _TRUNK.fullmatch(name)
    return match[2] if match else None


def input_channels(tensors: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of input channels of the first convolution of a ResNet or RegNet; None if it is missing."""
    stems = ("stem.conv1.weight", "stem.conv.weight")
    inner = {match[1]: value for name, value in tensors.items() if (match := _TRUNK.fullmatch(name))}
    first = next((inner[name] for name in stems if name in inner), None)
    return first.shape[1] if first is not None and first.ndim == 4 else None


def pyramid_channels(tensors: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of channels of an FPN's levels (MODEL.FPN.OUT_CHANNELS); None without an FPN."""
    return next((value.shape[0] for name, value in tensors.items() if _FPN_OUTPUT.fullmatch(name)), None)


def block_counts(names: Iterable[str]) -> dict[str, int]:
    """Return the number of blocks of each stage among ``names``."""
    blocks: dict[str, set] = {}
    for match in filter(None, map(_TRUNK.fullmatch, names)):
        if match[3]:
            blocks.setdefault(match[2], set()).add(match[3])
    return {stage: len(numbers) for stage, numbers in blocks.items()}


def resnet_options(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return the keys of MODEL.RESNETS that the tensors of a ResNet imply; {} for another or an unknown network."""
    inner = {match[1]: value for name, value in tensors.items() if (match := _TRUNK.fullmatch(name))}
    bottleneck = "res2.0.conv3.weight" in inner
    counts = block_counts(inner)
    depths = [
        depth
        for depth, (blocks, has_three) in _BLOCKS_BY_DEPTH.items()
        if has_three == bottleneck and counts == {s: n for s, n in zip(_STAGES, blocks) if s in counts}
    ]
    last = inner.get("res2.0.conv3.weight" if bottleneck else "res2.0.conv2.weight")
    if len(depths) != 1 or last is None:
        return {}
    return {"MODEL.RESNETS.DEPTH": depths[0], "MODEL.RESNETS.RES2_OUT_CHANNELS": last.shape[0]}
