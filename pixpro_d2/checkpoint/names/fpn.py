"""Names of an FPN's tensors in torchvision and in detectron2, and of detectron2's other pyramids.

torchvision numbers the levels from 0, detectron2 by the stage of the ResNet; both end at the last stage.
The functions take all names of a pyramid, without any prefix, and are inverse to each other.
"""

import re
from collections.abc import Collection

from ...utils.errors import UsageError

LAST_STAGE = 5
_DETECTRON2 = re.compile(r"fpn_(lateral|output)(\d)(\.norm)?\.(\w+)")
_TORCHVISION = re.compile(r"(inner|layer)_blocks\.(\d)\.(?:([01])\.)?(\w+)")  # before 0.13, blocks had no parts
_KINDS = {"lateral": "inner", "output": "layer"}
_KINDS_BACK = {theirs: ours for ours, theirs in _KINDS.items()}


def is_fpn(name: str) -> bool:
    """Return whether a detectron2 name belongs to the pyramid.

    ``top_block`` is RetinaNet's P6 and P7, and ``simfp_*`` the simple feature pyramid of a vision transformer.
    """
    return bool(_DETECTRON2.fullmatch(name)) or name.startswith(("top_block.", "simfp_"))


def to_torchvision(names: Collection[str]) -> dict[str, str]:
    """Map detectron2's names to torchvision's names.

    Raises:
        UsageError: if torchvision's FPN cannot have the levels of the pyramid.
    """
    parsed = {name: _DETECTRON2.fullmatch(name) for name in names}
    stages = sorted({int(match[2]) for match in parsed.values() if match})
    if not stages or stages != list(range(stages[0], LAST_STAGE + 1)):
        raise UsageError(f"The pyramid stands on the stages {stages}, but torchvision's ends at {LAST_STAGE}.")
    renamed = {}
    for name, match in parsed.items():
        if match is None:
            renamed[name] = name.replace("top_block.", "extra_blocks.", 1)
        else:
            kind, stage, norm, leaf = match.groups()
            renamed[name] = f"{_KINDS[kind]}_blocks.{int(stage) - stages[0]}.{1 if norm else 0}.{leaf}"
    return renamed


def to_detectron2(names: Collection[str]) -> dict[str, str]:
    """Map torchvision's names to detectron2's names; skip names of other modules."""
    parsed = {name: _TORCHVISION.fullmatch(name) for name in names}
    first = LAST_STAGE + 1 - len({match[2] for match in parsed.values() if match})
    renamed = {}
    for name, match in parsed.items():
        if match:
            kind, index, part, leaf = match.groups()
            norm = ".norm" if part == "1" else ""
            renamed[name] = f"fpn_{_KINDS_BACK[kind]}{int(index) + first}{norm}.{leaf}"
        elif name.startswith("extra_blocks."):
            renamed[name] = name.replace("extra_blocks.", "top_block.", 1)
    return renamed
