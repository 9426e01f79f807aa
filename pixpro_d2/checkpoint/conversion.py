"""Convert the backbone of a checkpoint to the files of other code."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..utils.errors import UsageError, check_choice
from ..utils.files import check_folder_of, report_write_errors, write_file
from . import export
from .formats import Source, read_weights
from .names import heads as head_names
from .tensors import check_tensors

SUFFIXES = {
    "detectron2": (".pkl",),  # detectron2's checkpointer recognises this suffix
    "torchvision": (".pth", ".pt"),
    "timm": (".pth", ".pt", ".safetensors"),
    "safetensors": (".safetensors",),
    "official": (".pth", ".pt"),
}
# Formats of code that has no INPUT.PIXEL_RANGE.
_FOREIGN = ("torchvision", "timm", "official")
# Formats that can hold an FPN, and True for the formats that keep it by default.
KEEPS_FPN = {"detectron2": True, "safetensors": True, "torchvision": False}


def convert(
    source_path: str,
    out: str,
    to: str,
    branch: str = "online",
    with_fpn: bool | None = None,
    with_hash: bool = False,
    half: bool = False,
) -> tuple[str, str]:
    """Convert the backbone of a checkpoint.

    Args:
        source_path: checkpoint in any known format.
        out: file to write, with a suffix out of ``SUFFIXES[to]``.
        to: name of the format, out of ``SUFFIXES``.
        branch: ``online`` or ``target``.
        with_fpn: keep the FPN, which must exist; None for the default of the format, see ``KEEPS_FPN``.
        with_hash: put a hash into the file's name.
        half: store the weights as float16.

    Returns:
        Path of the file, and one line about its contents.

    Raises:
        UsageError: if the checkpoint cannot be converted.
    """
    check_choice("--to", to, tuple(SUFFIXES))
    check_out(out, to, SUFFIXES[to])
    if to == "official" and branch == "target":
        raise UsageError("--to official holds both branches: leave --branch out.")
    if with_fpn and to not in KEEPS_FPN:
        raise UsageError(f"--to {to} has no place for an FPN: leave out --with-fpn, or use {' or '.join(KEEPS_FPN)}.")
    source = read_weights(source_path)
    if half:
        source.state = to_half(source.state, source_path)
    backbone = export.backbone_of(source, branch, source_path)
    check_tensors({**backbone.trunk, **backbone.pyramid}, source_path)
    check_pyramid(bool(backbone.pyramid), with_fpn, branch, source_path)
    keeps = KEEPS_FPN.get(to, False) if with_fpn is None else with_fpn
    dropped = {} if keeps else backbone.pyramid
    if dropped:
        backbone = export.Backbone(backbone.trunk, {})
    with report_write_errors(out):
        path = write_file(out, _writer(source, backbone, source_path, to, out), with_hash)
    name = "network of timm" if backbone.is_timm else export.architecture(backbone.trunk) or "backbone"
    fpn = f", FPN of {len(backbone.pyramid)} tensors" if backbone.pyramid else ""
    scaling = source.convention.scaling if source.convention and to in _FOREIGN else ""
    without = f", without its FPN of {len(dropped)} tensors" if dropped else ""
    if to == "official" and head_names.has_heads(source.state) and not export.official_heads(source.state):
        without += ", without its pre-training heads, which the official model does not have"
    return path, (
        f"{to} format, {name} of {len(backbone.trunk)} tensors{fpn}: the {branch} branch of {source_path} "
        f"({source.format}){without}; input: {source.convention or 'unknown'}{scaling and f'; {scaling}'}"
    )


def to_half(state: Mapping[str, torch.Tensor], path: str) -> dict[str, torch.Tensor]:
    """Return the tensors with all floating-point numbers as float16.

    Raises:
        UsageError: if a finite number of the file ``path`` is too large for float16.
    """
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    for name, half in halves.items():
        if half.isinf().any() and state[name].isfinite().all():
            raise UsageError(f"{name} of {path} has a number above 65504, the limit of float16: omit --half.")
    return halves


def check_out(out: str, to: str, suffixes: tuple[str, ...]) -> None:
    """Check the suffix and the folder of a file to write.

    Raises:
        UsageError: for another suffix than the format ``to`` has, or without such a folder.
    """
    if not out.endswith(suffixes):
        raise UsageError(f"{out} must end in {' or '.join(suffixes)} for --to {to}.")
    check_folder_of(out)


def check_pyramid(has_fpn: bool, with_fpn: bool | None, branch: str, path: str) -> None:
    """Raise a UsageError if an FPN is demanded of the backbone in ``path``, which has none."""
    if with_fpn and not has_fpn:
        raise UsageError(f"The {branch} backbone of {path} has no FPN: leave out --with-fpn.")


def _writer(source: Source, backbone: export.Backbone, path: str, to: str, out: str) -> Callable[[str], None]:
    """Check everything, and return the function that writes the file to a path."""
    if to == "safetensors":
        return lambda partial: export.write_safetensors(source, backbone, partial)
    if to == "detectron2":
        pickled = export.to_detectron2(source, backbone, path)
        return lambda partial: export.write_detectron2(pickled, partial)
    exporters = {"official": export.to_official, "timm": export.to_timm, "torchvision": export.to_torchvision}
    contents: Any = exporters[to](source, backbone, path)
    if out.endswith(".safetensors"):  # with the input as metadata
        return lambda partial: export.write_tensors(contents, source.convention, partial)
    zipped = to != "official"  # PyTorch 1.4, which the official code needs, cannot read today's zip format
    return lambda partial: torch.save(contents, partial, _use_new_zipfile_serialization=zipped)
