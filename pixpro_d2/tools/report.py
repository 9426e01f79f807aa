"""One HTML page about one run or several, to look at in a browser and to pass on.

python -m pixpro_d2.tools.report OUTPUT_DIR [OTHER_DIR ...] [--output report.html]

Says of each run whether it looks healthy and shows its curves, its pictures over time, its results on labelled data,
how the configs differ, and where it ran. The page is one file and needs no network.
"""

import argparse
from pathlib import Path

from ..extras.report.page import render
from ..extras.report.runs import find_runs, read_run, short_names
from ..utils.errors import UsageError
from ..utils.files import write_file


def write_report(folders, output=None):
    """Write a page about the runs in ``folders``.

    Args:
        folders (list[str]): OUTPUT_DIRs, or folders of such.
        output (str or None): file; report.html in the first folder without it.

    Returns:
        str: its path.

    Raises:
        UsageError: for a folder without a run, or a place where no file can be written.
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


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.report", description="Write an HTML page about one run or several."
    )
    parser.add_argument(
        "folders", metavar="OUTPUT_DIR", nargs="+", help="OUTPUT_DIR of a run, or a folder that holds several"
    )
    parser.add_argument("--output", metavar="FILE", help="page to write; without it report.html in the first folder")
    args = parser.parse_args(argv)
    try:
        path = write_report(args.folders, args.output)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
