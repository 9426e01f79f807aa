"""A long run of quickstart that is killed at random times and resumed must give what an uninterrupted one gives.

    python tests/faults/soak.py OUTPUT [--iterations 2000] [--seconds 20 60] [KEY VALUE ...]

Renders a data set unless DATASETS.TRAIN is given. Writes OUTPUT/soak.json and OUTPUT/memory.png. Needs Linux. Exits
with 1 unless weights and optimiser are equal to the bit, and memory is flat: over the second half of the uninterrupted
run's iterations, neither the process nor its data workers together may grow by more than 10 MB per 1000 iterations
(--flat), on the line of least squares through one reading a second.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the tests' folder: modules of this one are faults.*

from faults.commands import Command  # noqa: E402
from faults.memory import MemorySampler, draw, slope  # noqa: E402
from faults.runs import assert_same  # noqa: E402
from pixpro_d2.extras.scenes.render_dataset import render_dataset  # noqa: E402
from pixpro_d2.utils.files import write_json  # noqa: E402
from pixpro_d2.utils.signals import REQUEUE  # noqa: E402

FLAT = 10.0  # MB per 1000 iterations
# What a kill does, and how often.
KINDS = {"SIGKILL": 0.6, "SIGKILL while saving": 0.3, "SIGTERM": 0.1}


class Soak:
    """Both runs, in one folder; ``fork`` is that of a :class:`Command`."""

    def __init__(self, output, iterations, opts, fork=False):
        self._fork = fork
        self.output = Path(output).resolve()
        self.output.mkdir(parents=True)
        if "DATASETS.TRAIN" not in opts:
            render_dataset(self.output / "scenes", train=200, test=2)
            opts = ["DATASETS.TRAIN", f"('images:{self.output}/scenes/JPEGImages',)", *opts]
        length = ["SOLVER.MAX_EPOCHS", 0, "SOLVER.MAX_ITER", iterations, "SOLVER.WARMUP_EPOCHS", 0]
        length += ["SOLVER.WARMUP_ITERS", iterations // 20, "SOLVER.CHECKPOINT_PERIOD", 10]
        kept = ["SOLVER.CHECKPOINT_KEEP_LAST", 3, "SEED", 1]
        self.words = ["--config-file", "configs/pretrain/quickstart.yaml", *length, *kept, *opts]
        self.began = time.monotonic()
        self._runs = 0

    def start(self, folder):
        """Start or resume a run, and wait until it trains; returns the command and its memory's samples."""
        self._runs += 1
        log = self.output / f"log_{self._runs:03d}.txt"
        command = Command("--resume", *self.words, "OUTPUT_DIR", self.output / folder, log=log, fork=self._fork)
        sampler = MemorySampler(command.pid, self.began)
        sampler.start()
        command.when(lambda: "Starting training from iteration" in command.output())
        return command, sampler.samples

    def straight(self):
        """Run to the end; returns (samples, those of its iterations alone, seconds of training)."""
        command, samples = self.start("straight")
        began, first = time.monotonic(), len(samples)
        while command.process.poll() is None and not (self.output / "straight" / "model_final.pth").exists():
            time.sleep(0.02)
        seconds, training = time.monotonic() - began, samples[first:]
        assert command.end().code == 0, command.output()[-3000:]
        return samples, training, seconds

    def disturbed(self, rng, shortest, longest, most):
        """Run, kill and resume to the end.

        Returns:
            tuple: samples of each process, and a dict for each kill: kind, seconds since the beginning, and seconds of
            training that its last checkpoint does not hold.
        """
        parts, kills, folder = [], [], self.output / "disturbed"
        while True:
            command, samples = self.start("disturbed")
            parts.append(samples)
            ends = time.monotonic() + rng.uniform(shortest, longest)
            while command.process.poll() is None and (len(kills) == most or time.monotonic() < ends):
                time.sleep(0.02)
            if command.process.poll() is not None:
                assert command.end().code == 0, command.output()[-3000:]
                return parts, kills
            kind = rng.choices(list(KINDS), KINDS.values())[0]
            lost = self._kill(command, kind, folder)
            kills.append({"kind": kind, "seconds": time.monotonic() - self.began, "lost": lost})
            print(f"{kills[-1]['seconds']:7.0f} s  {kind}, {lost:.1f} s of training to repeat", flush=True)

    def _kill(self, command, kind, folder):
        if kind == "SIGTERM":
            command.process.terminate()
            code = command.end().code
            assert code in (0, REQUEUE), command.output()[-3000:]
            return 0.0
        while kind == "SIGKILL while saving" and command.process.poll() is None and not any(folder.glob("*.pth.tmp")):
            time.sleep(0.001)
        last = folder / "last_checkpoint"
        saved = last.stat().st_mtime if last.exists() else time.time()
        if command.process.poll() is None:
            os.kill(command.pid, signal.SIGKILL)
        command.end()
        return time.time() - saved


def verdict(growth, limit, equal):
    """Return what to print, and the exit code.

    Args:
        growth (list[float]): of the process and of its data workers together, MB per 1000 iterations.
        limit (float): most that either may grow.
        equal (bool): whether weights and optimiser are equal to the bit.
    """
    own, workers = growth
    flat = max(growth) <= limit
    memory = "flat" if flat else f"NOT FLAT, at most {limit:g} MB are"
    final = "final weights and optimiser equal to the bit" if equal else "the final checkpoints DIFFER"
    text = f"memory: {own:+.1f} MB per 1000 iterations, workers {workers:+.1f} MB: {memory}\n{final}"
    return text, int(not (equal and flat))


def main(argv=None, fork=False):
    """Run the command line, and exit; see :class:`Soak` for ``fork``."""
    parser = argparse.ArgumentParser(prog="python tests/faults/soak.py", description=__doc__.splitlines()[0])
    parser.add_argument("output", metavar="OUTPUT", help="folder to make")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--seconds", type=float, nargs=2, default=(20, 60), help="least and most between two kills")
    parser.add_argument("--kills", type=int, default=-1, help="no more than so many; -1: until the run ends")
    parser.add_argument("--seed", type=int, default=0, help="of the times and kinds of kills")
    parser.add_argument("--flat", type=float, default=FLAT, help="most that memory may grow, MB per 1000 iterations")
    parser.add_argument("opts", metavar="KEY VALUE", nargs="*", default=[], help="config of the runs")
    args = parser.parse_intermixed_args(argv)
    soak = Soak(args.output, args.iterations, args.opts, fork)
    straight, training, seconds = soak.straight()
    pace = seconds / args.iterations
    parts, kills = soak.disturbed(random.Random(args.seed), *args.seconds, args.kills)
    growth = slope(training, pace)
    repeated = round(sum(kill["lost"] for kill in kills) / pace)
    try:
        assert_same(soak.output / "disturbed", soak.output / "straight")
        equal = True
    except AssertionError as error:
        equal = False
        print(f"differs: {error}")
    report = {"iterations": args.iterations, "seconds_per_iteration": pace, "kills": kills, "resumes": len(parts) - 1}
    report |= {"iterations_repeated": repeated, "equal": equal, "flat": max(growth) <= args.flat}
    report |= {"mb_per_1000_iterations": growth}
    write_json(soak.output / "soak.json", {**report, "memory": {"straight": straight, "disturbed": parts}})
    draw(soak.output / "memory.png", straight, parts, [kill["seconds"] for kill in kills])
    print(f"{len(kills)} kills, {len(parts) - 1} resumes, about {repeated} of {args.iterations} iterations repeated")
    text, code = verdict(growth, args.flat, equal)
    print(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
