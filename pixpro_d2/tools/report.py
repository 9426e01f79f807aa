"""Write one HTML page about one or several runs, to open in a browser and to share.

python -m pixpro_d2.tools.report OUTPUT_DIR [OTHER_DIR ...] [--output report.html]

The page says of each run whether it looks healthy. It shows curves, pictures over time, results on labelled data,
differences between configs, and the machines. The page is one file and needs no network.
"""

import argparse
from collections.abc import Sequence

from ..command_line import one_sentence, program
from ..extras.report.page import write_report


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program("report"), description="Write an HTML page about one run or several.")
    parser.add_argument(
        "folders", metavar="OUTPUT_DIR", nargs="+", help="OUTPUT_DIR of a run, or a folder that holds several"
    )
    parser.add_argument("--output", metavar="FILE", help="page to write; without it report.html in the first folder")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    path = write_report(args.folders, args.output)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
