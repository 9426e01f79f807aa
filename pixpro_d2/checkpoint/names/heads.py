"""Names of the pre-training heads in the official PixPro checkpoints and in this project's.

Official names: ``contrast/models/PixPro.py`` of zdaxie/PixPro, without ``module.``.
"""

import re
from collections.abc import Collection

from ...utils.errors import UsageError

_HEADS = {
    "projector": "projector.heads.shared",
    "projector_k": "target_projector.heads.shared",
    "value_transform": "ppm.heads.shared.value_transform",
    "projector_instance": "instance.projector",
    "projector_instance_k": "target_instance_projector",
    "predictor": "instance.predictor",
}
_LAYERS = {"linear1": "0", "bn1": "1", "linear2": "3"}
_LAYERS_BACK = {theirs: ours for ours, theirs in _LAYERS.items()}
_LEVEL = re.compile(r"\.heads\.(\w+)\.")


def from_official(name: str) -> str | None:
    """Map ``projector.linear1.weight`` to ``projector.heads.shared.0.weight``; return None outside the heads."""
    head, _, rest = name.partition(".")
    layer, _, leaf = rest.partition(".")
    if head == "value_transform" and not leaf:  # a single convolution
        layer, leaf = "linear1", layer
    if head not in _HEADS or layer not in _LAYERS:
        return None
    return f"{_HEADS[head]}.{_LAYERS[layer]}.{leaf}"


def has_heads(names: Collection[str]) -> bool:
    """Return whether this project's ``names`` of a checkpoint's tensors include those of a projector."""
    return any(name.startswith("projector.heads.") for name in names)


def to_official(names: Collection[str]) -> dict[str, str]:
    """Map this project's names of all heads among ``names`` to the official names.

    Return {} if a head has more layers than the official heads, as SlotCon's projector does.

    Raises:
        UsageError: if there are heads for several levels; the official model has a single level.
    """
    levels = {match[1] for match in map(_LEVEL.search, names) if match}
    if len(levels) > 1:
        raise UsageError(
            f"The checkpoint has a projector for each of {', '.join(sorted(levels))}, but the official format has one: "
            "use --to detectron2, torchvision or safetensors."
        )
    ours = {name: _LEVEL.sub(".heads.shared.", name, count=1) for name in names}
    two_layers = f"{_HEADS['value_transform']}.3.weight" in ours.values()
    renamed = {}
    for name, shared in ours.items():
        for head, prefix in _HEADS.items():
            if not shared.startswith(f"{prefix}."):
                continue
            layer, _, leaf = shared.removeprefix(f"{prefix}.").partition(".")
            if layer not in _LAYERS_BACK:
                return {}
            single = head == "value_transform" and not two_layers
            renamed[name] = f"{head}.{leaf}" if single else f"{head}.{_LAYERS_BACK[layer]}.{leaf}"
    return renamed
