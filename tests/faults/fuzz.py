"""Random harm to configs, checkpoints, images and annotations: what is not right works, or is refused with a reason.

    python tests/faults/fuzz.py [--count N] [--seed S] [--only KIND ...] [--case I]

Each case follows from the seed, its kind and its number. Anything but success, a UsageError or an UnreadableImage is a
finding, so is the end of the process or a case of more than 10 seconds; --case repeats one, in this process.
Exits with 1 if there is a finding.
"""

import argparse
import collections
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the tests' folder: modules of this one are faults.*

import numpy as np  # noqa: E402
import torch  # noqa: E402

from faults.fuzz_files import Annotations, Checkpoints, Images  # noqa: E402
from faults.fuzz_keys import Configs  # noqa: E402
from pixpro_d2.data.io.reader import UnreadableImage  # noqa: E402
from pixpro_d2.utils.errors import UsageError  # noqa: E402

LIMIT_SECONDS = 10  # of the processor's time; PATIENCE times as much by the clock
PATIENCE = 6
OUTCOMES = ("worked", "refused")

# name -> (what makes the cases, in a folder of its own; number of cases)
KINDS = {
    "configs": (Configs, 1000),
    "checkpoints": (Checkpoints, 100),
    "images": (Images, 1000),
    "VOC XML": (lambda folder: Annotations(folder, "voc"), 500),
    "COCO JSON": (lambda folder: Annotations(folder, "coco"), 500),
}


def rng_of(seed, kind, number):
    """The random numbers of a case."""
    return np.random.default_rng((seed, zlib.crc32(kind.encode()), number))


def fuzz(kind, numbers, seed, folder):
    """Try cases in a process that may end or hang, whereupon another one goes on.

    Args:
        kind (str): of KINDS.
        numbers (range): of the cases.
        seed (int): of all.
        folder (Path): for files.

    Returns:
        tuple[Counter, dict]: number of cases that worked and that were refused; what came of the others, by number.
    """
    counts, findings, context = collections.Counter(), {}, multiprocessing.get_context("fork")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_try_all, args=(kind, numbers, seed, folder, theirs))
        process.start()
        theirs.close()
        for number in numbers:
            outcome = _receive(ours, process)
            if outcome in OUTCOMES:
                counts[outcome] += 1
            else:
                findings[number] = outcome
            if process.exitcode is not None:
                break
        process.join()
        numbers = numbers[numbers.index(number) + 1 :]
    return counts, findings


def _receive(connection, process):
    """What came of the next case; ends the process if nothing does."""
    try:
        if connection.poll(PATIENCE * LIMIT_SECONDS):
            return connection.recv()
        outcome = "hangs"
    except EOFError:
        outcome = "ended the process"
    process.kill()
    process.join()
    return f"{outcome} (exit code {process.exitcode})"


def _try_all(kind, numbers, seed, folder, connection):
    work = Path(tempfile.mkdtemp(dir=folder))
    os.chdir(work)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        cases = KINDS[kind][0](work)
        for number in numbers:
            connection.send(_try(cases, rng_of(seed, kind, number)))


def _try(cases, rng):
    began = time.process_time()
    try:
        cases.try_one(rng)
        outcome = "worked"
    except (UsageError, UnreadableImage):
        outcome = "refused"
    except Exception as error:
        places = [place for place in traceback.extract_tb(error.__traceback__) if "pixpro_d2" in place.filename]
        where = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else "nowhere"
        return f"{type(error).__name__} by way of {where}: {' '.join(str(error).split())[:200]}"
    seconds = time.process_time() - began
    return outcome if seconds < LIMIT_SECONDS else f"took {seconds:.0f} s"


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python tests/faults/fuzz.py", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="cases of each kind; default: hundreds, as is worth while for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="some kinds")
    parser.add_argument("--case", type=int, help="this number alone of the first of --only, with its traceback")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.case is not None:
            kind = args.only[0]
            os.chdir(folder)
            KINDS[kind][0](Path(folder)).try_one(rng_of(args.seed, kind, args.case))
            return
        found = 0
        for kind in args.only:
            count = args.count or KINDS[kind][1]
            counts, findings = fuzz(kind, range(count), args.seed, folder)
            found += len(findings)
            told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)
            print(f"{kind}: {count} cases, {told}, {len(findings)} findings")
            for number, outcome in findings.items():
                print(f"  --only '{kind}' --seed {args.seed} --case {number}: {outcome}", flush=True)
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
