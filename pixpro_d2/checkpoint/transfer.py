"""Fit the weights of one model into another model with the same backbone.

The functions are pure functions on names. They find the place of a pre-training checkpoint's backbone in the
downstream model, and skip heads that only pre-training has.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

STATISTICS = (".running_mean", ".running_var")
COUNTER = ".num_batches_tracked"


@dataclass
class Transfer:
    """Hold weights under the names of the receiving model, and the names of the other weights.

    Attributes:
        state: weights that fit the model by name and shape.
        skipped: names in the file that have no place in the model.
        misshapen: names that the model has with another shape.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)


def candidate_names(name: str) -> Iterator[str]:
    """Yield the names under which detectron2's models may hold the weight ``name``, the name itself first.

    A plain backbone is ``backbone.*``. A backbone below an FPN is ``backbone.bottom_up.*``. C4 detectors
    keep the last stage of the backbone in ``roi_heads.res5.*``.
    """
    yield name
    if not name.startswith("backbone."):
        return
    inner = name.removeprefix("backbone.").removeprefix("bottom_up.")
    yield f"backbone.{inner}"
    yield f"backbone.bottom_up.{inner}"
    if inner.startswith("res5."):
        yield f"roi_heads.{inner}"


TOWERS = ("head.cls_subnet.", "head.bbox_subnet.")  # of one-stage detectors; loaded as a whole or not at all


def fit(checkpoint: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> Transfer:
    """Rename the weights of the state dict ``checkpoint`` to the names of the state dict ``model``."""
    result = Transfer()
    for name, value in checkpoint.items():
        target = next((candidate for candidate in candidate_names(name) if candidate in model), None)
        if target is None:
            result.skipped.append(name)
        elif model[target].shape != value.shape:
            result.misshapen.append(target)
        else:
            result.state[target] = value
    for tower in TOWERS:
        theirs, ours = ({name for name in names if name.startswith(tower)} for names in (checkpoint, model))
        if theirs and ours and theirs != ours:  # their layers are others: GN shifts the numbers of FCOS's
            result.skipped += sorted(theirs & result.state.keys())
            result.state = {name: value for name, value in result.state.items() if name not in theirs}
    return result


def match_suffixes(checkpoint: dict[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights outside the backbone whose names are suffixes of the names of ``model``, as detectron2 does.

    Args:
        checkpoint: state dict with the weights.
        model: state dict of the model. Its target branch gets no weights.
    """
    # detectron2 refuses a name that matches twice, as in the online and the target branch.
    online = {name: value for name, value in model.items() if not name.startswith("target_")}
    matching = {name for name in checkpoint if any(f".{own}".endswith(f".{name}") for own in online)}
    ends = {name: checkpoint[name] for name in matching if not name.startswith("backbone.")}
    if not ends:
        return checkpoint
    rest = {name: value for name, value in checkpoint.items() if name not in ends}
    return {**rest, **align_and_update_state_dicts(online, ends, c2_conversion=False)}


def is_weight(name: str) -> bool:
    """Return whether a tensor is neither a running statistic nor a counter of a norm."""
    return not name.endswith((*STATISTICS, COUNTER))


def trunk_names(model: Iterable[str], with_statistics: bool = False) -> list[str]:
    """Return the names of the trunk's weights in the state dict ``model``, which any checkpoint for it must cover.

    The trunk is the backbone below an FPN, and a C4 detector's res5. The FPN is excluded, because its levels differ
    between pre-training and detection. The norm that PixPro's C4 recipe adds after res5 is excluded, too. Running
    statistics count only ``with_statistics``, and the counters of norms never count.
    """
    prefix = "backbone.bottom_up." if any(name.startswith("backbone.bottom_up.") for name in model) else "backbone."
    return [
        name
        for name in model
        if (is_weight(name) or (with_statistics and name.endswith(STATISTICS)))
        and (
            name.startswith(prefix)
            or (name.startswith("roi_heads.res5.") and not name.startswith("roi_heads.res5.norm."))
        )
    ]
