"""Convert a checkpoint between formats.

``python -m pixpro_d2.tools.convert IN OUT --to FORMAT`` reads any checkpoint that ``MODEL.WEIGHTS`` takes, and writes
its backbone for other code.
"""

import argparse
from collections.abc import Sequence

from ..command_line import one_sentence, program
from ..utils.errors import UsageError

ONNX = "onnx"
FORMATS = ("detectron2", "torchvision", "timm", "safetensors", "official", ONNX)
EPILOG = """formats:
  detectron2   pickle as the official PixPro converter writes it, for detectron2's own checkpointer; FPN included
  torchvision  state dict of torchvision's ResNet without fc, and without an FPN; --with-fpn makes it one of
               torchvision's BackboneWithFPN (body.*, fpn.*)
  timm         names of a network of timm, which are torchvision's for a ResNet; no FPN. A .safetensors file keeps the
               input convention as metadata
  safetensors  names of this project's models (backbone.*), FPN included, input convention in the metadata
  official     checkpoint of the official PixPro code: both branches, and the pre-training heads if the official code
               has such heads; no FPN
  onnx         graph of backbone and FPN, with one output for each feature: res2 to res5, or p2 to p6. Its input is
               (N, 3, H, W) of RGB in [0, 1]; the graph normalises it. H and W are multiples of 32

IN may have any of these formats, and those of MoCo, SimSiam, DenseCL, PixelCL, detectron2's model zoo and so on.
Except for onnx and --half, tensors are copied bit by bit. The command skips tensors that a format has no place for, and
reports them."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("convert"),
        description="Convert the backbone of a checkpoint between formats.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="checkpoint in any known format")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument("--to", choices=FORMATS, required=True, help="format to write")
    parser.add_argument("--branch", choices=("online", "target"), default="online", help="default: online")
    fpn = parser.add_mutually_exclusive_group()
    fpn.add_argument(
        "--with-fpn", action="store_true", default=None, help="keep the FPN, in the torchvision format too"
    )
    fpn.add_argument("--without-fpn", action="store_false", dest="with_fpn", help="drop the FPN in any format")
    parser.add_argument("--hash", action="store_true", help="put 8 digits of the SHA-256 into the name of OUT")
    parser.add_argument("--half", action="store_true", help="store the weights as float16, not for onnx")
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="for onnx: config of the network (default: config.yaml beside IN, or else a plain ResNet)",
    )
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    path, what = _convert(args)
    print(f"{path}: {what}")


def _convert(args: argparse.Namespace) -> tuple[str, str]:
    """Write the file; return its path, and one line about its contents."""
    if args.to != ONNX:
        from ..checkpoint.conversion import convert  # it loads PyTorch

        return convert(args.source, args.out, args.to, args.branch, args.with_fpn, args.hash, args.half)
    if args.half:
        raise UsageError("--half is not for onnx, whose graph computes in float32: leave it out.")
    from ..extras.deployment.onnx import convert_to_onnx

    return convert_to_onnx(args.source, args.out, args.branch, args.with_fpn, args.hash, args.config_file)


if __name__ == "__main__":
    main()
