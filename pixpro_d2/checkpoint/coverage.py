"""Check whether the weights of a file cover a model, and describe the coverage in a log line."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..utils.errors import UsageError
from .depth import block_counts, input_channels, pyramid_channels, resnet_options, stage_of
from .formats import ALONE, Source
from .names.fpn import is_fpn
from .timm_networks import NET, has_network
from .transfer import COUNTER, STATISTICS, Transfer, is_weight, trunk_names


def check_trunk(
    path: str, source: Source, own: Mapping[str, Tensor], transfer: Transfer, allow_partial: bool, frozen: bool
) -> None:
    """Check that the file and the model have the same trunk.

    Args:
        path: path of the file, for messages.
        source: contents of the file.
        own: state dict of the model.
        transfer: weights of the file that fit the model.
        allow_partial: accept trunks that have only some weights in common, unless ``frozen``.
        frozen: whether the trunk is not trained.

    Raises:
        UsageError: if the trunks differ; the message names the first difference and the keys to set.
    """
    trunk = trunk_names(own)
    is_timm = has_network(own)
    if is_timm and has_network(source.state):
        _check_network(path, source, own, transfer, allow_partial, frozen)
        return
    if trunk and not any(name in transfer.state for name in trunk):
        advice = "" if source.format else f"; {ALONE}"
        advice = "; set MODEL.TIMM.NAME to the network of the weights" if is_timm else advice
        kind = f"recognised as {source.format}" if source.format else "of no known format"
        raise UsageError(
            f"MODEL.WEIGHTS {path}, {kind}, holds no weight of this model's backbone: its first names are "
            f"{', '.join(list(source.state)[:3])}, the model expects {', '.join(trunk[:3])}{advice}."
        )
    expected = trunk_names(own, with_statistics=not source.folded_norms)
    missing = [name for name in expected if name not in transfer.state]
    stages = {stage_of(name) for name in trunk}
    unplaced = [n for n in transfer.skipped if not n.endswith(COUNTER) and stage_of(n) in stages - {None}]
    if not (missing or unplaced) or (allow_partial and not frozen):
        return
    advice = " (the backbone is frozen and must be covered)" if frozen else ""
    _check_channels(path, input_channels(source.state), input_channels(own))
    _check_depth(path, source.state, own, advice)
    advice = advice or ", or set MODEL.ALLOW_PARTIAL_WEIGHTS True"
    if missing:
        why = "has another shape there" if missing[0] in transfer.misshapen else "is not in it"
        raise UsageError(
            f"MODEL.WEIGHTS {path} covers only {len(expected) - len(missing)} of the backbone's {len(expected)} "
            f"weights ({missing[0]} {why}): use the depth, norm and options it was trained with{advice}."
        )
    raise UsageError(
        f"MODEL.WEIGHTS {path} has {len(unplaced)} weights of the backbone that the model has no place for "
        f"({unplaced[0]} is the first): use the depth, norm and options it was trained with{advice}."
    )


def _check_network(
    path: str, source: Source, own: Mapping[str, Tensor], transfer: Transfer, allow_partial: bool, frozen: bool
) -> None:
    """Check that the file and the model have the same network of timm; see :func:`check_trunk`."""
    expected = trunk_names(own, with_statistics=True)
    missing = [name for name in expected if name not in transfer.state]
    unplaced = [name for name in transfer.skipped if name.startswith(NET) and not name.endswith(COUNTER)]
    has_some = len(missing) < len(expected)
    if not (missing or unplaced) or (allow_partial and not frozen and has_some):
        return
    # The first layer tells networks apart best: it shows the width, the size of the patches and the channels of images.
    first = next((name for name in expected if name.endswith(".weight") and own[name].ndim == 4), "")
    odd = first if first in missing else (missing or unplaced)[0]
    inner = odd[odd.index(".net.") + len(".net.") :]
    theirs = source.state.get(f"{NET}{inner}")
    if theirs is None:
        difference = f"{inner} is not there"
    elif odd not in own:
        difference = f"{inner} is not here"
    else:
        there, here = list(theirs.shape), list(own[odd].shape)
        if odd == first and there[:1] + there[2:] == here[:1] + here[2:]:
            _check_channels(path, there[1], here[1])
        difference = f"{inner} is {there} there and {here} here"
    advice = ", or set MODEL.ALLOW_PARTIAL_WEIGHTS True" if has_some else ""
    advice = " (the backbone is frozen and must be covered)" if frozen else advice
    raise UsageError(
        f"MODEL.WEIGHTS {path} is of another network of timm than the model ({difference}; differing weights: "
        f"{len(missing) + len(unplaced)}): set MODEL.TIMM.NAME to the network of the weights{advice}."
    )


def _check_channels(path: str, there: int | None, here: int | None) -> None:
    """Raise a UsageError if two trunks take images with different numbers of channels."""
    if there is None or here is None or there == here:
        return
    values = "MODEL.PIXEL_MEAN and MODEL.PIXEL_STD with {} each"
    one, three = values.format("one value"), values.format("three values")
    remedies = {1: f"set INPUT.FORMAT L, and {one}", 3: f"set INPUT.FORMAT RGB or BGR, and {three}"}
    raise UsageError(
        f"The number of input channels is {there} in MODEL.WEIGHTS {path} and {here} in the model: "
        f"{remedies.get(there, 'use weights for grey or colour images')}."
    )


def _check_depth(path: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], advice: str) -> None:
    """Raise a UsageError if two trunks have different blocks; name the keys to set, if possible."""
    there, here = resnet_options(theirs), resnet_options(ours)
    keys = {key: value for key, value in there.items() if here.get(key) != value}
    if width := _other_pyramid(theirs, ours):
        keys["MODEL.FPN.OUT_CHANNELS"] = width
    if "MODEL.RESNETS.DEPTH" in keys and here:
        depths = [options["MODEL.RESNETS.DEPTH"] for options in (there, here)]
        words = " ".join(f"{key} {value}" for key, value in keys.items())
        raise UsageError(
            f"MODEL.WEIGHTS {path} is a ResNet-{depths[0]} and the model a ResNet-{depths[1]}: set {words}{advice}."
        )
    there, here = block_counts(theirs), block_counts(ours)
    stage = next((stage for stage in here if there.get(stage, 0) not in (0, here[stage])), None)
    if stage:
        raise UsageError(
            f"MODEL.WEIGHTS {path} has {there[stage]} blocks in stage {stage} and the model {here[stage]}: use the "
            f"depth and options it was trained with{advice}."
        )


def _other_pyramid(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> int | None:
    """Return the number of channels of their FPN if both models have an FPN, of different widths; else None."""
    there, here = pyramid_channels(theirs), pyramid_channels(ours)
    return None if here is None or there == here else there


def describe_pyramid(path: str, source: Source, own: Mapping[str, Tensor]) -> str | None:
    """Return a sentence on the FPN of a file that has other channels than the model's; None without such an FPN."""
    width = _other_pyramid(source.state, own)
    if width is None:
        return None
    return (
        f"The pyramid of MODEL.WEIGHTS {path} has {width} channels, the model's has {pyramid_channels(own)} and keeps "
        f"random weights: set MODEL.FPN.OUT_CHANNELS {width} to load the pyramid."
    )


def check_complete(path: str, source: Source, own: Mapping[str, Tensor], transfer: Transfer) -> None:
    """Check that no weight stays random in a model that is only evaluated.

    Raises:
        UsageError: if a weight stays random; the message counts the random weights of each part.
    """
    ignored = (COUNTER, *(STATISTICS if source.folded_norms else ()))
    needed = [name for name in own if not name.endswith(ignored)]
    random = [name for name in needed if name not in transfer.state]
    if not random:
        return
    total = Counter(map(_part, needed))
    parts = ", ".join(f"{part} {count} of {total[part]}" for part, count in Counter(map(_part, random)).items())
    reason = f"{random[0]} has another shape there" if random[0] in transfer.misshapen else f"it has no {random[0]}"
    raise UsageError(
        f"MODEL.WEIGHTS {path} would leave {len(random)} of the model's {len(needed)} weights random ({parts}; "
        f"{reason}): give the checkpoint of a training with this config."
    )


def describe_transfer(path: str, source: Source, own: Mapping[str, Tensor], transfer: Transfer) -> str:
    """Return one line on the loaded and the skipped weights of a file, and the parts of the model that it lacks."""
    trunk = trunk_names(own)
    loaded = [name for name in trunk if name in transfer.state]
    convolutions = [name for name in trunk if own[name].ndim == 4]
    beyond = _beyond(own, trunk, transfer)
    also = ", ".join(f"{part} {have} of {total}" for part, (have, total) in beyond if have)
    there = set(map(_part, transfer.misshapen))
    absent = ", ".join(f"{part} ({total})" for part, (have, total) in beyond if not have and part not in there)
    counts = Counter(name.split(".")[0] for name in transfer.skipped)
    skipped = ", ".join(f"{module} ({count})" for module, count in counts.items()) or "nothing"
    misshapen = f", of another shape: {', '.join(transfer.misshapen)}" if transfer.misshapen else ""
    resized = f" Resized: {', '.join(source.resized)}." if source.resized else ""
    return (
        f"Backbone: {len([name for name in convolutions if name in transfer.state])} of {len(convolutions)} "
        f"convolutions, {len(loaded)} of {len(trunk)} weights loaded from {path} "
        f"({source.format or 'names of the model'}){f'; also {also}' if also else ''}. "
        f"Tensors skipped: {skipped}{misshapen}.{resized} Not in the file: {absent or 'nothing'}."
    )


def _beyond(own: Mapping[str, Tensor], trunk: Iterable[str], transfer: Transfer) -> list[tuple[str, tuple[int, int]]]:
    """Count the weights outside trunk and target branch, without statistics: (part, (loaded, in the model))."""
    outside = set(own) - set(trunk)
    names = [n for n in own if n in outside and is_weight(n) and not n.startswith("target_")]
    total, have = Counter(map(_part, names)), Counter(_part(name) for name in names if name in transfer.state)
    return [(part, (have[part], total[part])) for part in total]


def _part(name: str) -> str:
    """Return the part of a model that a weight belongs to."""
    return "pyramid" if is_fpn(name.removeprefix("backbone.")) else name.split(".")[0]
