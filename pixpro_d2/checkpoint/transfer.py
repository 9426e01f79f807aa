"""Fitting the weights of one model into another that shares its backbone.

Pure functions on names: the backbone of a pre-training checkpoint is found wherever the downstream model
keeps it, and heads that only pre-training has are left out.
"""

from dataclasses import dataclass, field


@dataclass
class Transfer:
    """Weights under the names of the model that takes them, and what that leaves over.

    Attributes:
        state (dict[str, Tensor]): fits the model by name and shape.
        left_out (dict[str, int]): number of tensors without a place in the model, by top-level module.
        misshapen (list[str]): names that the model has with another shape.
    """

    state: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)
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
            module = name.split(".")[0]
            result.left_out[module] = result.left_out.get(module, 0) + 1
        elif model[target].shape != value.shape:
            result.misshapen.append(target)
        else:
            result.state[target] = value
    return result


def trunk_names(model):
    """Weights of the feature extractor proper in the state dict ``model``: what any checkpoint for it must cover.

    Convolution and linear weights and norms' scale and shift, of the backbone below an FPN and of a C4
    detector's res5. Not the FPN, whose levels differ between pre-training and detection, not running
    statistics, and not the norm that PixPro's C4 recipe adds behind res5.
    """
    prefix = "backbone.bottom_up." if any(name.startswith("backbone.bottom_up.") for name in model) else "backbone."
    return [
        name
        for name in model
        if name.endswith((".weight", ".bias"))
        and (
            name.startswith(prefix)
            or (name.startswith("roi_heads.res5.") and not name.startswith("roi_heads.res5.norm."))
        )
    ]
