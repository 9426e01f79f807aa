"""Write one HTML page about one or several runs, to open in a browser and to share.

python -m pixpro_d2.tools.report OUTPUT_DIR [OTHER_DIR ...] [--output report.html]

The page says of each run whether it looks healthy. It shows curves, pictures over time, results on labelled data,
differences between configs, and the machines. The page is one file and needs no network.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..command_line import one_sentence, program
from ..extras.report.page import render
from ..extras.report.runs import find_runs, read_run, short_names
from ..utils.errors import UsageError
from ..utils.files import write_file


def write_report(folders: Sequence[str], output: str | Path | None = None) -> str:
    """Write a page about the runs in ``folders``.

    Args:
        folders: OUTPUT_DIRs, or folders that hold several OUTPUT_DIRs.
        output: file to write; by default report.html in the first folder.

    Returns:
        Path of the page.

    Raises:
        UsageError: if a folder has no run, or the page cannot be written.
    """
    found = find_runs(folders)
    page = render([read_run(folder, name) for folder, name in zip(found, short_names(found))])
    path = Path(output or Path(folders[0], "report.html"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_file(str(path), lambda partial: Path(partial).write_text(page, encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {path} ({error.strerror}): name a file by --output."
        ) from error


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
