"""The table of faults: each injected into real processes, with what happened and what was lost.

    python tests/faults [--quick] [--only NAME ...] [--jobs N] [--markdown FILE]

Needs Linux, and about a quarter of an hour on two cores, by two faults at a time; any is given ten minutes at most.
Exits with 1 if a fault was not survived.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, partial
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the tests' folder: modules of this one are faults.*

from faults.registry import try_fault  # noqa: E402
from faults.runs import Runs  # noqa: E402
from faults.table import markdown  # noqa: E402
from faults.themes import FAULTS  # noqa: E402


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python tests/faults", description="Inject faults into real runs.")
    parser.add_argument("--quick", action="store_true", help="only those of the test suite")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="those with such words in their names")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="faults at a time (default 2)")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to a file too, as GitHub shows it")
    args = parser.parse_args()
    chosen = [fault for fault in FAULTS if fault.quick or not args.quick]
    chosen = [fault for fault in chosen if not args.only or any(word in fault.name for word in args.only)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(args.jobs) as pool:
        results = list(pool.map(partial(_try, folder), chosen))
    failed = [result for result in results if result.lost is None]
    survived, seconds = len(results) - len(failed), time.monotonic() - began
    print(f"\n{markdown(results)}\n{survived} of {len(results)} faults survived, {seconds:.0f} s")
    if args.markdown:
        Path(args.markdown).write_text(markdown(results), encoding="utf-8")
    sys.exit(bool(failed))


@cache
def _runs(folder):
    """Those of this process, one of several."""
    return Runs(tempfile.mkdtemp(dir=folder))


def _try(folder, fault):
    runs = _runs(folder)
    log = runs.new("log.txt")
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        result = try_fault(fault, runs)
    print(f"{'FAILED' if result.lost is None else 'ok':6} {result.seconds:5.1f} s  {fault.name}", flush=True)
    if result.lost is None:
        print(log.read_text()[-4000:])
    return result


if __name__ == "__main__":
    main()
