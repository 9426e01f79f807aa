"""Names of a ResNet's tensors in torchvision (and timm, and most research code) and in detectron2.

The functions take names without any prefix; :func:`to_torchvision` is the inverse of :func:`to_detectron2`.
"""

import re

_STEM = {"conv1": "conv1", "bn1": "conv1.norm"}
_BLOCK = {
    **_STEM,
    "conv2": "conv2",
    "bn2": "conv2.norm",
    "conv3": "conv3",
    "bn3": "conv3.norm",
    "downsample.0": "shortcut",
    "downsample.1": "shortcut.norm",
}
_STEM_BACK = {theirs: ours for ours, theirs in _STEM.items()}
_BLOCK_BACK = {theirs: ours for ours, theirs in _BLOCK.items()}
_TORCHVISION = re.compile(r"(?:layer([1-4])\.(\d+)\.)?(conv\d|bn\d|downsample\.\d)\.(\w+)")
_DETECTRON2 = re.compile(r"(?:stem|res([2-5])\.(\d+))\.((?:conv\d|shortcut)(?:\.norm)?)\.(\w+)")
_SEQUENTIAL = re.compile(r"([014-7])\.(.+)")


def to_detectron2(name: str) -> str | None:
    """Map ``layer1.0.bn1.bias`` to ``res2.0.conv1.norm.bias``; return None if detectron2's plain ResNet lacks it."""
    match = _TORCHVISION.fullmatch(name)
    if not match:
        return None
    stage, block, module, leaf = match.groups()
    module = (_BLOCK if stage else _STEM).get(module)
    place = f"res{int(stage) + 1}.{block}" if stage else "stem"
    return f"{place}.{module}.{leaf}" if module else None


def to_torchvision(name: str) -> str | None:
    """Map ``res2.0.conv1.norm.bias`` to ``layer1.0.bn1.bias``; return None if torchvision's ResNet lacks it."""
    match = _DETECTRON2.fullmatch(name)
    if not match:
        return None
    stage, block, module, leaf = match.groups()
    module = (_BLOCK_BACK if stage else _STEM_BACK).get(module)
    place = f"layer{int(stage) - 1}.{block}." if stage else ""
    return f"{place}{module}.{leaf}" if module else None


def from_sequential(name: str) -> str | None:
    """Map ``4.0.bn1.bias`` of ``nn.Sequential(*resnet.children())`` to ``layer1.0.bn1.bias``; else return None."""
    match = _SEQUENTIAL.fullmatch(name)
    if not match:
        return None
    index, rest = int(match[1]), match[2]
    return f"{('conv1', 'bn1')[index]}.{rest}" if index < 2 else f"layer{index - 3}.{rest}"
