"""Disks that are full, forbidden or gone, and checkpoints that are damaged or missing."""

import ctypes
import os
import resource
import shutil

from .killing import resume
from .registry import NOTHING, fault
from .runs import assert_same, numbered, resumed_after

LATEST, BEFORE = numbered(23), 19  # of the runs that are cut off: the last checkpoint, and the iteration of the former
STEPS = f"{NOTHING}; {23 - BEFORE} more steps are repeated"


@fault("disk full while saving", "RLIMIT_FSIZE at 3/4 of a checkpoint's size", quick=True)
def full(runs):
    folder = runs.cut_off(23)
    size = (folder / LATEST).stat().st_size * 3 // 4

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    error = runs.train("--resume", *runs.pretraining(), "OUTPUT_DIR", folder, preexec_fn=limit).error()
    assert f"{numbered(27)} could not be saved" in error and f"{LATEST}, is whole" in error and "GB" in error, error
    assert not (folder / numbered(27)).exists() and not any(folder.glob("*.tmp"))
    later = resume(runs, runs.pretraining(), folder, runs.straight)
    return f"one sentence says how much room it takes, exit code 1; with room {later}", NOTHING


@fault("disk full for metrics", "metrics.json is a link to /dev/full", quick=True)
def full_for_metrics(runs):
    folder = runs.new()
    folder.mkdir()
    (folder / "metrics.json").symlink_to("/dev/full")
    ended = runs.train(*runs.pretraining(), "OUTPUT_DIR", folder)
    assert ended.code == 0 and ended.output.count("cannot write metrics to") == 1, ended
    assert_same(folder, runs.straight)
    return "one warning; the run ends, bit-identical", "the lines of metrics.json"


@fault("output folder may not be written to", "chmod 555, without the right to override it")
def read_only(runs):
    folder = runs.new()
    folder.mkdir(mode=0o555)

    def give_up_override():
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: what root has

    ended = runs.train(*runs.pretraining(), "OUTPUT_DIR", folder, preexec_fn=give_up_override)
    assert str(folder) in ended.error() and "ermission denied" in ended.error(), ended
    return "one sentence before the first step, exit code 1", NOTHING


@fault("output folder is a file", "OUTPUT_DIR names a file", quick=True)
def no_folder(runs):
    path = runs.new()
    path.write_text("notes")
    assert str(path) in runs.train(*runs.pretraining(), "OUTPUT_DIR", path).error()
    assert path.read_text() == "notes"
    return "one sentence before the first step, exit code 1", NOTHING


@fault("output folder removed while training", "rm -r once the checkpoint of iteration 3 is there")
def removed(runs):
    folder = runs.new()
    command = runs.start(*runs.pretraining(), "SOLVER.MAX_ITER", 3000, "OUTPUT_DIR", folder)
    command.when((folder / "last_checkpoint").is_file)
    shutil.rmtree(folder)
    ended = command.end()
    assert ended.code == 1 and "could not be saved (No such file or directory)" in ended.output, ended
    return "stopped at the next save, which names the file, exit code 1", "what somebody has removed"


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    os.truncate(path, 0)


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def falls_back(runs, damage):
    folder = runs.cut_off(23)
    damage(folder / LATEST)
    ended = runs.train("--resume", *runs.pretraining(), "OUTPUT_DIR", folder)
    assert resumed_after(ended) == BEFORE, ended
    assert LATEST in ended.output and f"resuming from {folder / numbered(BEFORE)} instead" in ended.output, ended
    assert_same(folder, runs.straight)
    return f"warns, resumes after iteration {BEFORE}, bit-identical", STEPS


@fault("last checkpoint cut off", "truncated to half its size", quick=True)
def cut_off(runs):
    return falls_back(runs, truncate)


@fault("last checkpoint of zeros", "all bytes zero, as some file systems leave after a loss of power")
def zeros(runs):
    return falls_back(runs, zero)


@fault("last checkpoint empty", "truncated to nothing")
def nothing_in_it(runs):
    return falls_back(runs, empty)


@fault("bit rot in the last checkpoint", "one bit flipped in the middle, within a tensor")
def rotten(runs):
    return falls_back(runs, flip_bit)


@fault("last checkpoint missing", "deleted; last_checkpoint still names it")
def missing(runs):
    return falls_back(runs, os.remove)


@fault("last_checkpoint gone", "deleted", quick=True)
def mark_gone(runs):
    folder = runs.cut_off(23)
    (folder / "last_checkpoint").unlink()
    return resume(runs, runs.pretraining(), folder, runs.straight), NOTHING


@fault("last_checkpoint empty", "truncated to nothing")
def mark_empty(runs):
    folder = runs.cut_off(23)
    empty(folder / "last_checkpoint")
    return resume(runs, runs.pretraining(), folder, runs.straight), NOTHING


@fault("all checkpoints damaged", "each truncated to half its size", quick=True)
def all_damaged(runs):
    folder = runs.cut_off(23)
    for path in folder.glob("*.pth"):
        truncate(path)
    error = runs.train("--resume", *runs.pretraining(), "OUTPUT_DIR", folder).error()
    assert "can be resumed from" in error and str(folder) in error, error
    assert not (folder / "model_final.pth").exists()
    return "one sentence, exit code 1; no run from scratch over what may be saved yet", NOTHING


@fault("checkpoint of another model", "--resume --allow-changes with another width of the projector", quick=True)
def other_model(runs):
    folder = runs.cut_off(23)
    words = [*runs.pretraining(), "MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM", 24]
    error = runs.train("--resume", "--allow-changes", *words, "OUTPUT_DIR", folder).error()
    assert LATEST in error and "does not fit this config" in error, error
    return "one sentence that names the first tensor that differs, exit code 1", NOTHING


@fault("new run over checkpoints", "the same command without --resume, in the same OUTPUT_DIR", quick=True)
def started_anew(runs):
    folder = runs.cut_off(23)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    error = runs.train(*runs.pretraining(), "OUTPUT_DIR", folder).error()
    assert str(folder) in error and "--resume" in error, error
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return "refused in one sentence, exit code 1; no file is changed or added", NOTHING


@fault("half-written checkpoint left over", "model_0000027.pth.tmp of random bytes beside the others", quick=True)
def left_over(runs):
    folder = runs.cut_off(23)
    (folder / f"{numbered(27)}.tmp").write_bytes(os.urandom(10_000))
    happened = resume(runs, runs.pretraining(), folder, runs.straight)
    assert not any(folder.glob("*.tmp"))
    return f"removed at the next save; {happened}", NOTHING
