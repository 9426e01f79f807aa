"""Convert a checkpoint between formats.

``python -m pixpro_d2.tools.convert IN OUT --to FORMAT`` takes the backbone out of any checkpoint that
``MODEL.WEIGHTS`` takes, and writes it for other code.
"""

import argparse
import os

import torch

from ..checkpoint import export
from ..checkpoint.formats import recognise
from ..checkpoint.reading import check_finite, read_checkpoint
from ..checkpoint.writing import write_file
from ..errors import UsageError, check_choice

SUFFIXES = {
    "detectron2": (".pkl",),  # by which detectron2's checkpointer knows it
    "torchvision": (".pth", ".pt"),
    "timm": (".pth", ".pt"),
    "safetensors": (".safetensors",),
    "official": (".pth", ".pt"),
}
WITH_FPN = ("detectron2", "torchvision", "safetensors")
EPILOG = """formats:
  detectron2   pickle as the official PixPro converter writes it, for detectron2's own checkpointer; FPN included
  torchvision  state dict of torchvision's ResNet without fc; with an FPN, of its BackboneWithFPN (body.*, fpn.*),
               unless --without-fpn
  timm         the same names as torchvision; no FPN
  safetensors  names of this project's models (backbone.*), FPN included, input convention in the metadata
  official     checkpoint of the official PixPro code: both branches and, if there, the pre-training heads; no FPN

IN may have any of these formats, and those of MoCo, SimSiam, DenseCL, PixelCL, detectron2's model zoo and so on.
Tensors are copied bit by bit. What a format has no place for is left out, and said."""


def convert(source_path, out, to, branch="online", with_fpn=True, with_hash=False):
    """Convert the backbone of a checkpoint.

    Args:
        source_path (str): checkpoint in any known format.
        out (str): file to write, with a suffix out of ``SUFFIXES[to]``.
        to (str): name of the format, out of ``SUFFIXES``.
        branch (str): ``online`` or ``target``.
        with_fpn (bool): keep the FPN, where the format has one.
        with_hash (bool): put a hash into the file's name.

    Returns:
        tuple[str, str]: path of the file, and one line on what is in it.

    Raises:
        UsageError: for what cannot be converted.
    """
    check_choice("--to", to, tuple(SUFFIXES))
    if not out.endswith(SUFFIXES[to]):
        raise UsageError(f"{out} must end in {' or '.join(SUFFIXES[to])} for --to {to}.")
    if not os.path.isdir(os.path.dirname(os.path.abspath(out))):
        raise UsageError(f"There is no folder {os.path.dirname(os.path.abspath(out))}: make it first.")
    if to == "official" and branch == "target":
        raise UsageError("--to official holds both branches: leave --branch out.")
    source = recognise(read_checkpoint(source_path), source_path)
    backbone = export.backbone_of(source, branch, source_path)
    check_finite({**backbone.trunk, **backbone.pyramid}, source_path)
    dropped = {} if with_fpn and to in WITH_FPN else backbone.pyramid
    if dropped:
        backbone = export.Backbone(backbone.trunk, {})
    path = write_file(out, _writer(source, backbone, source_path, to), with_hash)
    name = export.architecture(backbone.trunk) or "backbone"
    fpn = f", FPN of {len(backbone.pyramid)} tensors" if backbone.pyramid else ""
    without = f", without its FPN of {len(dropped)} tensors" if dropped else ""
    return path, (
        f"{to} format, {name} of {len(backbone.trunk)} tensors{fpn}: the {branch} branch of {source_path} "
        f"({source.format}){without}; input: {source.convention or 'unknown'}"
    )


def _writer(source, backbone, path, to):
    """Function that writes the file to the path it is given; everything is checked before it is called."""
    if to == "safetensors":
        return lambda out: export.write_safetensors(source, backbone, out)
    if to == "detectron2":
        contents = export.to_detectron2(source, backbone)
        return lambda out: export.write_detectron2(contents, out)
    contents = (export.to_official if to == "official" else export.to_torchvision)(source, backbone, path)
    return lambda out: torch.save(contents, out)


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
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
    parser.add_argument("--without-fpn", action="store_true", help="leave the FPN out, as for a plain ResNet")
    parser.add_argument("--hash", action="store_true", help="put 8 digits of the SHA-256 into the name of OUT")
    args = parser.parse_args(argv)
    try:
        path, what = convert(args.source, args.out, args.to, args.branch, not args.without_fpn, args.hash)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{path}: {what}")


if __name__ == "__main__":
    main()
