"""Convert a checkpoint between formats.

``python -m pixpro_d2.tools.convert IN OUT --to FORMAT`` reads any checkpoint that ``MODEL.WEIGHTS`` takes, and writes
its backbone for other code.
"""

import argparse
import os
from collections.abc import Callable, Sequence

import torch

from ..checkpoint import export
from ..checkpoint.formats import Source, read_weights
from ..checkpoint.tensors import check_tensors
from ..utils.errors import UsageError, check_choice
from ..utils.files import report_write_errors, write_file

SUFFIXES = {
    "detectron2": (".pkl",),  # detectron2's checkpointer recognises this suffix
    "torchvision": (".pth", ".pt"),
    "timm": (".pth", ".pt"),
    "safetensors": (".safetensors",),
    "official": (".pth", ".pt"),
}
# Whether a format keeps the FPN by default; other formats have no place for it.
KEEPS_FPN = {"detectron2": True, "safetensors": True, "torchvision": False}
EPILOG = """formats:
  detectron2   pickle as the official PixPro converter writes it, for detectron2's own checkpointer; FPN included
  torchvision  state dict of torchvision's ResNet without fc, and without an FPN; --with-fpn makes it one of
               torchvision's BackboneWithFPN (body.*, fpn.*)
  timm         the same names as torchvision; no FPN
  safetensors  names of this project's models (backbone.*), FPN included, input convention in the metadata
  official     checkpoint of the official PixPro code: both branches and, if there, the pre-training heads; no FPN

IN may have any of these formats, and those of MoCo, SimSiam, DenseCL, PixelCL, detectron2's model zoo and so on.
Tensors are copied bit by bit. The command skips tensors that a format has no place for, and reports them."""


def convert(
    source_path: str,
    out: str,
    to: str,
    branch: str = "online",
    with_fpn: bool | None = None,
    with_hash: bool = False,
) -> tuple[str, str]:
    """Convert the backbone of a checkpoint.

    Args:
        source_path: checkpoint in any known format.
        out: file to write, with a suffix out of ``SUFFIXES[to]``.
        to: name of the format, out of ``SUFFIXES``.
        branch: ``online`` or ``target``.
        with_fpn: keep the FPN, which must exist; None for the default of the format, see ``KEEPS_FPN``.
        with_hash: put a hash into the file's name.

    Returns:
        Path of the file, and one line about its contents.

    Raises:
        UsageError: if the checkpoint cannot be converted.
    """
    check_choice("--to", to, tuple(SUFFIXES))
    if not out.endswith(SUFFIXES[to]):
        raise UsageError(f"{out} must end in {' or '.join(SUFFIXES[to])} for --to {to}.")
    if not os.path.isdir(os.path.dirname(os.path.abspath(out))):
        raise UsageError(f"There is no folder {os.path.dirname(os.path.abspath(out))}: make it first.")
    if to == "official" and branch == "target":
        raise UsageError("--to official holds both branches: leave --branch out.")
    if with_fpn and to not in KEEPS_FPN:
        raise UsageError(f"--to {to} has no place for an FPN: leave out --with-fpn, or use {' or '.join(KEEPS_FPN)}.")
    source = read_weights(source_path)
    backbone = export.backbone_of(source, branch, source_path)
    check_tensors({**backbone.trunk, **backbone.pyramid}, source_path)
    if with_fpn and not backbone.pyramid:
        raise UsageError(f"The {branch} backbone of {source_path} has no FPN: leave out --with-fpn.")
    keeps = KEEPS_FPN.get(to, False) if with_fpn is None else with_fpn
    dropped = {} if keeps else backbone.pyramid
    if dropped:
        backbone = export.Backbone(backbone.trunk, {})
    with report_write_errors(out):
        path = write_file(out, _writer(source, backbone, source_path, to), with_hash)
    name = export.architecture(backbone.trunk) or "backbone"
    fpn = f", FPN of {len(backbone.pyramid)} tensors" if backbone.pyramid else ""
    without = f", without its FPN of {len(dropped)} tensors" if dropped else ""
    return path, (
        f"{to} format, {name} of {len(backbone.trunk)} tensors{fpn}: the {branch} branch of {source_path} "
        f"({source.format}){without}; input: {source.convention or 'unknown'}"
    )


def _writer(source: Source, backbone: export.Backbone, path: str, to: str) -> Callable[[str], None]:
    """Check everything, and return the function that writes the file to a path."""
    if to == "safetensors":
        return lambda out: export.write_safetensors(source, backbone, out)
    if to == "detectron2":
        contents = export.to_detectron2(source, backbone)
        return lambda out: export.write_detectron2(contents, out)
    contents = (export.to_official if to == "official" else export.to_torchvision)(source, backbone, path)
    return lambda out: torch.save(contents, out)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.convert",
        description="Convert the backbone of a checkpoint between formats.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="checkpoint in any known format")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument("--to", choices=SUFFIXES, required=True, help="format to write")
    parser.add_argument("--branch", choices=("online", "target"), default="online", help="default: online")
    fpn = parser.add_mutually_exclusive_group()
    fpn.add_argument(
        "--with-fpn", action="store_true", default=None, help="keep the FPN, in the torchvision format too"
    )
    fpn.add_argument("--without-fpn", action="store_false", dest="with_fpn", help="drop the FPN in any format")
    parser.add_argument("--hash", action="store_true", help="put 8 digits of the SHA-256 into the name of OUT")
    args = parser.parse_args(argv)
    try:
        path, what = convert(args.source, args.out, args.to, args.branch, args.with_fpn, args.hash)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{path}: {what}")


if __name__ == "__main__":
    main()
