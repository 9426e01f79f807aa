"""The table of faults: each injected into real runs, with what happened and what was lost.

    python tests/faults [--quick] [--only NAME ...] [--markdown FILE]

Needs Linux. Exits with 1 if a fault was not survived.
"""

import argparse
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the tests' folder: modules of this one are faults.*

import torch  # noqa: E402
from tabulate import tabulate  # noqa: E402

from faults.registry import try_fault  # noqa: E402
from faults.runs import Runs  # noqa: E402
from faults.themes import FAULTS  # noqa: E402

COLUMNS = ("Fault", "How it is injected", "What happened", "What was lost")


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python tests/faults", description="Inject faults into real runs.")
    parser.add_argument("--quick", action="store_true", help="only those that take seconds")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="those with such words in their names")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to a file too")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as the commands have: other numbers of threads round differently
    chosen = [fault for fault in FAULTS if fault.quick or not args.quick]
    chosen = [fault for fault in chosen if not args.only or any(word in fault.name for word in args.only)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs, log = Runs(folder), Path(folder, "log.txt")
        results = [_try(fault, runs, log) for fault in chosen]
    failed = [result for result in results if result.lost is None]
    rows = [(r.fault.name, r.fault.how, r.happened, "NOT SURVIVED" if r.lost is None else r.lost) for r in results]
    table = tabulate([[cell.replace("|", r"\|") for cell in row] for row in rows], COLUMNS, tablefmt="github")
    print(f"\n{table}\n\n{len(rows) - len(failed)} of {len(rows)} faults survived, {time.monotonic() - began:.0f} s")
    if args.markdown:
        Path(args.markdown).write_text(table + "\n", encoding="utf-8")
    sys.exit(bool(failed))


def _try(fault, runs, log):
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        result = try_fault(fault, runs)
    print(f"{'FAILED' if result.lost is None else 'ok':6} {result.seconds:5.1f} s  {fault.name}", flush=True)
    if result.lost is None:
        print(log.read_text()[-4000:])
    return result


if __name__ == "__main__":
    main()
