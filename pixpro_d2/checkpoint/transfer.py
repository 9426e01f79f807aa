"""Fitting the weights of one model into another that shares its backbone.

Pure functions on names: the backbone of a pre-training checkpoint is found wherever the downstream model
keeps it, and heads that only pre-training has are left out.
"""

from dataclasses import dataclass, field

from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

WEIGHTS = (".weight", ".bias")
STATISTICS = (".running_mean", ".running_var")


@dataclass
class Transfer:
    """Weights under the names of the model that takes them, and what that leaves over.

    Attributes:
        state (dict[str, Tensor]): fits the model by name and shape.
        left_out (list[str]): names of the file that have no place in the model.
        misshapen (list[str]): names that the model has with another shape.
    """

    state: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)
    misshapen: list = field(default_factory=list)


def candidate_names(name):
    """Names under which detectron2's models may hold the weight ``name``, the name itself first.

    A plain backbone is ``backbone.*``, below an FPN it is ``backbone.bottom_up.*``, and C4 detectors
    keep the last stage of it in ``roi_heads.res5.*``.
    """
    yield name
    if not name.startswith("backbone."):
        return
    inner = name.removeprefix("backbone.").removeprefix("bottom_up.")
    yield f"backbone.{inner}"
    yield f"backbone.bottom_up.{inner}"
    if inner.startswith("res5."):
        yield f"roi_heads.{inner}"


def fit(checkpoint, model):
    """Rename the weights of ``checkpoint`` to the names of ``model``.

    Args:
        checkpoint, model (dict[str, Tensor]): state dicts.
    """
    result = Transfer()
    for name, value in checkpoint.items():
        target = next((candidate for candidate in candidate_names(name) if candidate in model), None)
        if target is None:
            result.left_out.append(name)
        elif model[target].shape != value.shape:
            result.misshapen.append(target)
        else:
            result.state[target] = value
    return result


def match_suffixes(checkpoint, model):
    """Rename the weights outside the backbone whose names are ends of the names of ``model``, as detectron2 does.

    Args:
        checkpoint, model (dict[str, Tensor]): state dicts. The target branch of ``model`` gets nothing.
    """
    # detectron2 refuses a name that fits twice, as it would online and target branch.
    online = {name: value for name, value in model.items() if not name.startswith("target_")}
    ends = {name for name in checkpoint if any(f".{own}".endswith(f".{name}") for own in online)}
    ends = {name: checkpoint[name] for name in ends if not name.startswith("backbone.")}
    if not ends:
        return checkpoint
    rest = {name: value for name, value in checkpoint.items() if name not in ends}
    return {**rest, **align_and_update_state_dicts(online, ends, c2_conversion=False)}


def trunk_names(model, endings=WEIGHTS):
    """Weights of the feature extractor proper in the state dict ``model``: what any checkpoint for it must cover.

    Convolution and linear weights and norms' scale and shift, of the backbone below an FPN and of a C4
    detector's res5. Not the FPN, whose levels differ between pre-training and detection, not running
    statistics (they are the ``endings`` STATISTICS), and not the norm that PixPro's C4 recipe adds behind res5.
    """
    prefix = "backbone.bottom_up." if any(name.startswith("backbone.bottom_up.") for name in model) else "backbone."
    return [
        name
        for name in model
        if name.endswith(endings)
        and (
            name.startswith(prefix)
            or (name.startswith("roi_heads.res5.") and not name.startswith("roi_heads.res5.norm."))
        )
    ]
