"""Prepare a checkpoint of a run for publication.

``python -m pixpro_d2.tools.publish CKPT`` keeps the weights, drops the optimiser and the progress, and adds the origin
of the weights.
"""

import argparse
from collections.abc import Sequence

from ..command_line import one_sentence, program


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("publish"),
        description="Strip a run's checkpoint to its weights, add metadata, and put a hash into its name.",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="checkpoint of a run of train_net.py")
    parser.add_argument("out", metavar="OUT", nargs="?", help="file to write, its name gets a hash (default: CKPT)")
    parser.add_argument("--config-file", help="config of the run (default: config.yaml beside CKPT)")
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights (default: %(default)s)")
    parser.add_argument("--commit", help="git commit that trained the weights (default: commit or version in run.json)")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.publishing import publish  # it loads PyTorch

    path, metadata = publish(args.checkpoint, args.out, args.config_file, args.licence, args.commit)
    names = "iterations", "datasets", "git_commit", "licence"
    print(f"{path}: {', '.join(f'{name} {metadata[name]}' for name in names)}")


if __name__ == "__main__":
    main()
