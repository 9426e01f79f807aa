"""Runs that are killed or asked to stop; each is resumed and must end like one that was not."""

import os
import signal

from pixpro_d2.engine.configuration.configure import SEED_FILE
from pixpro_d2.utils.files import read_json
from pixpro_d2.utils.signals import REQUEUE

from .registry import NOTHING, fault
from .runs import LAST, assert_same, numbered, resumed_after

REPEATED = f"{NOTHING}; the steps since the checkpoint are repeated"
# Projectors of 12 MB: a checkpoint takes long enough to be written that a kill meets it.
LARGE = ["MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM", 2048, "MODEL.PIXPRO.PROJECTOR.OUT_DIM", 512]


def resume(runs, words, folder, expected):
    """Resume a run, and check that it ends as the one in ``expected`` did; tells where it went on."""
    after = resumed_after(runs.train("--resume", *words, "OUTPUT_DIR", folder))
    assert_same(folder, expected)
    return f"resumed after iteration {after} of {LAST}, bit-identical"


def kill_after(runs, iteration, words, folder):
    """Start a run, and kill it when it has written a checkpoint after ``iteration``."""
    command = runs.start(*words, "OUTPUT_DIR", folder)
    command.when((folder / numbered(iteration)).is_file)
    os.kill(command.pid, signal.SIGKILL)
    assert command.end().code == -signal.SIGKILL and not (folder / "model_final.pth").exists()


@fault("killed while training", "SIGKILL to the process, which has a data worker", quick=True)
def killed(runs):
    folder = runs.new()
    kill_after(runs, 7, [*runs.pretraining(), "DATALOADER.NUM_WORKERS", 1], folder)
    return f"workers ended too; {resume(runs, runs.pretraining(), folder, runs.straight)}", REPEATED


@fault("killed while saving", "SIGKILL as soon as model_*.pth.tmp is there")
def killed_while_saving(runs):
    words, folder, straight = [*runs.pretraining(), *LARGE], runs.new(), runs.new("straight")
    assert runs.train(*words, "OUTPUT_DIR", straight).code == 0
    command = runs.start(*words, "OUTPUT_DIR", folder)
    command.when((folder / numbered(7)).is_file)
    command.when(lambda: any(folder.glob("*.pth.tmp")))
    os.kill(command.pid, signal.SIGKILL)
    command.end()
    assert any(folder.glob("*.pth.tmp")), "killed too late"
    happened = resume(runs, words, folder, straight)
    assert not any(folder.glob("*.tmp"))
    return f"half a file left, not taken, removed at the next save; {happened}", REPEATED


@fault("killed while evaluating", "SIGKILL to a detector's training when it says that inference starts")
def killed_while_evaluating(runs):
    folder = runs.new()
    command = runs.start(*runs.detection(), "OUTPUT_DIR", folder)
    command.when(lambda: "Start inference" in command.output())
    os.kill(command.pid, signal.SIGKILL)
    assert command.end().code == -signal.SIGKILL
    return resume(runs, runs.detection(), folder, runs.straight_detector), REPEATED


def stopped(runs, name, kill, workers, *launch):
    """Send a stop signal to a run in its first dozen iterations; checks that it saves and can be queued again."""
    folder = runs.new()
    command = runs.start(*launch, *runs.pretraining(), "DATALOADER.NUM_WORKERS", workers, "OUTPUT_DIR", folder)
    command.when((folder / numbered(3)).is_file)
    kill(command.pid, signal.Signals[name])
    ended = command.end()
    assert ended.code == REQUEUE and "Asked to stop" in ended.output and "Traceback" not in ended.output, ended
    last = (folder / "last_checkpoint").read_text()
    assert f"iteration {int(last[6:13])};" in ended.output and not (folder / "model_final.pth").exists()
    return folder


@fault("pre-empted (SIGTERM)", "SIGTERM to the training process", quick=True)
def terminated(runs):
    folder = stopped(runs, "SIGTERM", os.kill, 0)
    return f"saved at once, exit code {REQUEUE}; {resume(runs, runs.pretraining(), folder, runs.straight)}", NOTHING


@fault("pre-empted before training has begun", "SIGTERM as soon as there is a log")
def terminated_early(runs):
    folder = runs.new()
    command = runs.start(*runs.pretraining(), "OUTPUT_DIR", folder)
    command.when((folder / "log.txt").is_file)
    os.kill(command.pid, signal.SIGTERM)
    assert "Starting training" not in command.output(), "too late"
    ended = command.end()
    assert ended.code == REQUEUE and "Traceback" not in ended.output, ended
    assert runs.train("--resume", *runs.pretraining(), "OUTPUT_DIR", folder).code == 0
    assert_same(folder, runs.straight)
    return f"exit code {REQUEUE}; the same command with --resume gives the same bits", NOTHING


@fault("time limit near (SIGUSR1)", "SIGUSR1 to the training process and its two data workers, as SLURM does")
def signalled(runs):
    folder = stopped(runs, "SIGUSR1", os.killpg, 2)
    later = resume(runs, runs.pretraining(), folder, runs.straight)
    return f"workers served on until it had saved, exit code {REQUEUE}; {later}", NOTHING


@fault("interrupted by hand", "SIGINT (Ctrl-C) to the training process and its data worker")
def interrupted(runs):
    folder = runs.new()
    words = [*runs.pretraining(), "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", folder]
    # What runs in the background of a shell ignores SIGINT, and so would this process.
    command = runs.start(*words, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    command.when((folder / numbered(7)).is_file)
    os.killpg(command.pid, signal.SIGINT)
    assert command.end().code not in (0, REQUEUE) and not (folder / "model_final.pth").exists()
    return resume(runs, runs.pretraining(), folder, runs.straight), REPEATED


@fault("killed, with another number of workers at resume", "SIGKILL with 1 worker, then --resume with 2")
def other_workers(runs):
    folder = runs.new()
    kill_after(runs, 7, [*runs.pretraining(), "DATALOADER.NUM_WORKERS", 1], folder)
    return resume(runs, [*runs.pretraining(), "DATALOADER.NUM_WORKERS", 2], folder, runs.straight), REPEATED


@fault("killed, of a run whose seed was drawn", "SEED -1, SIGKILL, --resume, against a run with the drawn seed")
def drawn_seed(runs):
    words, folder, straight = [*runs.pretraining(), "SEED", -1], runs.new(), runs.new("straight")
    kill_after(runs, 7, words, folder)
    seed = read_json(folder / SEED_FILE)["seed"]
    assert runs.train(*words, "SEED", seed, "OUTPUT_DIR", straight).code == 0
    return f"seed {seed} kept; {resume(runs, words, folder, straight)}", REPEATED


@fault("evaluated before it is resumed", "a detector without SEED: SIGKILL, --eval-only in its folder, --resume")
def evaluated_between(runs):
    words, folder, straight = [*runs.detection(), "SEED", -1], runs.new(), runs.new("straight")
    kill_after(runs, 7, words, folder)
    seed = read_json(folder / SEED_FILE)["seed"]
    evaluated = runs.train("--eval-only", *words, "MODEL.WEIGHTS", folder / numbered(7), "OUTPUT_DIR", folder)
    assert evaluated.code == 0, evaluated
    assert runs.train(*words, "SEED", seed, "OUTPUT_DIR", straight).code == 0
    return f"the drawn seed is kept; {resume(runs, words, folder, straight)}", REPEATED
