"""What Weights & Biases is given, by a stand-in that records it, and by the real package where it is installed."""

import argparse
import errno
import json
import math
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import configs
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.checks import check_wandb
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.engine.writers import PatientWriter, WandbWriter, channels_last, start_run
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.signals import REQUEUE

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")
TRAINING = argparse.Namespace(eval_only=False)


class Run:
    """Records what it is told; ``step`` is the next one, as W&B has it."""

    def __init__(self, run_id="first", step=0):
        self.id, self.step = run_id, step
        self.logs, self.exit_code, self.preempting = [], None, False

    def log(self, values, step, commit):
        assert commit and step >= self.step and self.exit_code is None
        self.logs.append((step, values))
        self.step = step + 1

    def mark_preempting(self):
        assert self.exit_code is None
        self.preempting = True

    def finish(self, exit_code):
        assert self.exit_code is None
        self.exit_code = exit_code


class Wandb(ModuleType):
    """Stand-in for the module ``wandb``; its runs are kept, by id."""

    errors = SimpleNamespace(Error=type("Error", (Exception,), {}))

    def __init__(self):
        super().__init__("wandb")
        self.calls, self.runs = [], {}
        self.refuses = self.unreachable = False
        self.Image = np.asarray

    def login(self):
        if self.refuses:
            raise self.errors.Error("no key")

    def init(self, mode=None, **options):
        self.calls.append(options)
        if mode == "disabled":
            return Run("disabled")
        if self.unreachable:
            raise self.errors.Error("no\n route.")
        run_id = options["id"] or f"run{len(self.runs)}"
        former = self.runs.get(run_id)
        self.runs[run_id] = Run(run_id, former.step if former else 0)
        return self.runs[run_id]


def written(run, put, iterations):
    """The logs of ``run`` after a writer has written, at each of ``iterations``, what ``put(storage, i)`` records."""
    writer = WandbWriter(lambda: run, np.asarray)
    with EventStorage(iterations[0]) as storage:
        for storage.iter in iterations:
            put(storage, storage.iter)
            writer.write()
        writer.close()
    return run.logs


def test_values_are_logged_once_at_their_iteration():
    def put(storage, i):
        storage.put_scalar("loss", 10.0 - i)
        if i == 1:
            storage.put_scalar("seldom", 5.0, smoothing_hint=False)

    run = Run()
    logs = written(run, put, range(4))
    assert logs == [(0, {"loss": 10}), (1, {"loss": 9, "seldom": 5}), (2, {"loss": 8}), (3, {"loss": 7})]
    assert run.exit_code == 0


def test_several_iterations_in_one_writing_rise():
    run = Run()
    writer = WandbWriter(lambda: run, np.asarray)
    with EventStorage() as storage:
        for storage.iter, name in ((2, "late"), (0, "early"), (1, "between")):
            storage.put_scalar(name, 1.0)
        writer.write(), writer.write()
    assert run.logs == [(0, {"early": 1}), (1, {"between": 1}), (2, {"late": 1})]


def test_what_is_not_finite_is_passed_on():
    values = {"nan": math.nan, "inf": math.inf, "minus": -math.inf}
    ((_, logged_values),) = written(Run(), lambda storage, i: storage.put_scalars(**values), [0])
    assert math.isnan(logged_values["nan"]) and logged_values["inf"] == math.inf == -logged_values["minus"]


def test_pictures_have_their_channels_last_and_come_once():
    picture = torch.arange(2 * 5 * 3, dtype=torch.uint8).reshape(3, 2, 5)

    def put(storage, i):
        storage.put_scalar("loss", i)
        if i == 1:
            storage.put_image("vis/a", picture)

    logs = written(Run(), put, range(3))
    assert [set(values) for _, values in logs] == [{"loss"}, {"loss", "vis/a"}, {"loss"}]
    seen = logs[1][1]["vis/a"]
    assert seen.shape == (2, 5, 3) and seen.dtype == np.uint8
    assert all(seen[y, x, c] == picture[c, y, x] for c in range(3) for y in range(2) for x in range(5))


def test_floats_become_bytes():
    picture = np.array([0.0, 0.5, 1.0, 1.2, -0.1, 0.999], dtype=np.float32).reshape(3, 1, 2)
    seen = channels_last(picture)
    assert seen.dtype == np.uint8 and seen.flags.c_contiguous
    assert seen[0, 0].tolist() == [0, 255, 0] and seen[0, 1].tolist() == [128, 255, 255]


def test_an_interrupted_run_gets_only_what_it_lacks():
    """It had logged up to iteration 7, its checkpoint was that of iteration 4."""
    logs = written(Run(step=8), lambda storage, i: storage.put_scalar("loss", i), range(5, 11))
    assert [step for step, _ in logs] == [8, 9, 10]


@pytest.mark.parametrize(
    ("error", "preempting"), [(SystemExit(REQUEUE), True), (SystemExit(1), False), (ValueError("x"), False)]
)
def test_a_stopped_run_is_preempted_and_another_error_a_failure(error, preempting):
    """W&B takes an exit code above 0 for a failure unless the run is marked."""
    run = Run()
    writer = WandbWriter(lambda: run, np.asarray)
    with EventStorage() as storage, pytest.raises(type(error)):
        storage.put_scalar("loss", 1.0)
        writer.write()
        try:
            raise error
        finally:
            writer.close()
    assert (run.preempting, run.exit_code) == (preempting, 1)


def test_no_run_without_a_writing():
    writer = WandbWriter(pytest.fail, np.asarray)
    writer.close()


def test_lines_that_had_no_room_are_written_when_there_is_room_again(tmp_path):
    writer = PatientWriter(JSONWriter(str(tmp_path / "metrics.json")), str(tmp_path))
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with EventStorage() as storage, logged("pixpro_d2.engine.writers") as messages:
            for storage.iter in range(6):
                storage.put_scalar("loss", float(storage.iter))
                # After 40 bytes, within the second line, the disk is full until the fifth.
                limit = 40 if 1 <= storage.iter < 4 else former[0]
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
                writer.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert len(messages) == 1 and f"JSONWriter cannot write metrics to {tmp_path} (File too large)" in messages[0]
    writer.close()


def test_a_full_disk_also_at_the_end_and_pictures_do_not_pile_up(tmp_path):
    class Full(TensorboardXWriter):
        def __init__(self):
            self._writer = SimpleNamespace(add_scalar=self.fail, close=self.fail)
            self._window_size, self._last_write = 20, -1

        def fail(self, *values):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = PatientWriter(Full(), str(tmp_path))
    with EventStorage() as storage, logged("pixpro_d2.engine.writers") as messages:
        storage.put_scalar("loss", 1.0)
        storage.put_image("picture", torch.zeros(3, 4, 6))
        writer.write()
        writer.close()
    assert storage._vis_data == [] and len(messages) == 1


def config(folder, *opts):
    return configs.tiny("OUTPUT_DIR", str(folder), "WANDB.ENABLED", True, *opts)


def test_a_run_starts_with_the_whole_config(tmp_path):
    wandb = Wandb()
    (tmp_path / "mine").mkdir()
    start_run(wandb, config(tmp_path / "mine"), resumed=False)
    (options,) = wandb.calls
    assert (options["project"], options["name"], options["id"]) == ("pixpro_d2", "mine", None)
    assert options["resume"] == "allow" and options["dir"] == str(tmp_path / "mine")
    assert options["config"]["MODEL"]["PIXPRO"]["PROJECTOR"]["OUT_DIM"] == 16
    assert type(options["config"]["SOLVER"]) is dict and options["config"]["DATASETS"]["TEST"] == []
    json.dumps(options["config"])


def test_a_resumed_run_goes_on_and_a_fresh_one_does_not(tmp_path):
    wandb = Wandb()
    named = config(tmp_path, "WANDB.NAME", "a", "WANDB.PROJECT", "b")
    ids = [start_run(wandb, named, resumed).id for resumed in (True, True, False, True)]
    assert ids == ["run0", "run0", "run1", "run1"]
    assert {(call["name"], call["project"]) for call in wandb.calls} == {("a", "b")}


def test_training_goes_on_without_a_server(tmp_path):
    wandb = Wandb()
    wandb.unreachable = True
    with logged("pixpro_d2.engine.writers") as messages:
        run = start_run(wandb, config(tmp_path), resumed=False)
    assert run.id == "disabled" and not list(tmp_path.iterdir())
    assert len(messages) == 1 and "without Weights & Biases" in messages[0] and messages[0].endswith(": no route.")


class Picturing(HookBase):
    """Draws in every iteration a picture of its number."""

    def after_step(self):
        self.trainer.storage.put_image("picture", torch.full((3, 4, 6), self.trainer.iter, dtype=torch.uint8))


class Failing(HookBase):
    def before_step(self):
        if self.trainer.iter == 4:
            raise FloatingPointError("as asked")


class Pictured(Trainer):
    """With pictures, and written every two iterations."""

    def build_hooks(self):
        built = super().build_hooks()
        (writers,) = [hook for hook in built if isinstance(hook, PeriodicWriter)]
        writers._period = 2
        return [Picturing(), *built]


def train(folder, images, *hooks, resume=False):
    opts = ["SOLVER.MAX_ITER", 6, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.METRICS_PERIOD", 1]
    trainer = Pictured(config(folder, "DATASETS.TRAIN", (f"images:{images}",), *opts))
    trainer.register_hooks(hooks)
    trainer.resume_or_load(resume)
    trainer.train()


def test_a_training_that_fails_and_is_resumed(tmp_path, monkeypatch):
    """It fails in iteration 4, and goes on after iteration 2: 3 is there already."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    images, folder = tmp_path / "images", tmp_path / "run"
    write_images(images, 4, size=(60, 80))
    with pytest.raises(FloatingPointError):
        train(folder, images, Failing())
    (first,) = wandb.runs.values()
    assert first.exit_code == 1
    assert [step for step, _ in first.logs] == [0, 1, 2, 3]
    assert [int(values["picture"][0, 0, 0]) for _, values in first.logs] == [0, 1, 2, 3]
    assert {"total_loss", "lr", "ema_momentum"} <= set(first.logs[3][1])
    events = EventAccumulator(str(folder)).Reload()
    assert [image.step for image in events.Images("picture")] == [0, 1, 2, 3]  # TensorBoard has them as well

    train(folder, images, resume=True)
    assert list(wandb.runs) == [first.id]
    events = EventAccumulator(str(folder), {"images": 0}).Reload()  # 3 is there once, although both have written it
    assert [value.step for value in events.Scalars("total_loss")] == [1, 3, 5]
    assert [image.step for image in events.Images("picture")] == [0, 1, 2, 3, 4, 5]
    second = wandb.runs[first.id]
    assert [step for step, _ in second.logs] == [4, 5] and second.exit_code == 0


def test_asked_for_but_not_there(monkeypatch):
    cfg = load_config(QUICKSTART, ["WANDB.ENABLED", True])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="not installed: run `pip install wandb`"):
        check_wandb(cfg, TRAINING)
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))  # a folder of that name
    with pytest.raises(UsageError, match="not installed"):
        check_wandb(cfg, TRAINING)
    check_wandb(cfg, argparse.Namespace(eval_only=True))
    check_wandb(load_config(QUICKSTART, []), TRAINING)


def test_the_login_is_checked_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", wandb := Wandb())
    cfg = load_config(QUICKSTART, ["WANDB.ENABLED", True])
    check_wandb(cfg, TRAINING)
    wandb.refuses = True
    with pytest.raises(UsageError, match=r"\(no key\).*wandb login.*WANDB_MODE=offline"):
        check_wandb(cfg, TRAINING)


REAL = """
import sys, torch, wandb, configs
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from pixpro_d2.engine.checks import check_wandb
from pixpro_d2.engine.writers import PatientWriter, WandbWriter, start_run

cfg = configs.tiny("OUTPUT_DIR", sys.argv[1], "WANDB.ENABLED", True)
check_wandb(cfg, type("Args", (), {"eval_only": False}))
writer = WandbWriter(lambda: start_run(wandb, cfg, sys.argv[2] == "resumed"), wandb.Image)
with EventStorage() as storage:
    for storage.iter in range(3):
        storage.put_scalars(loss=float(storage.iter), bad=float("nan"), worse=float("inf"))
        if storage.iter == 1:
            storage.put_image("vis/a", torch.arange(90, dtype=torch.uint8).reshape(3, 5, 6))
        writer.write()
    run = writer._run
    assert run.step == 3 and run.summary["loss"] == 2
    assert run.config["MODEL"]["PIXPRO"]["PROJECTOR"]["OUT_DIM"] == 16
    assert run.project == "pixpro_d2"
    writer.close()
"""


def offline_history(path):
    """Return (step, values by name) of each writing of an offline run; the file is a log in LevelDB's format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, record, history = path.read_bytes(), 7, b"", []  # the file's own header has 7 bytes
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no header of a record fits into the rest of the block
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or last part
            entry, record = Record.FromString(record), b""
            if entry.WhichOneof("record_type") == "history":
                items = entry.history.item
                values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
                history.append((entry.history.step.num, values))
    return history


def test_the_real_package(tmp_path):
    pytest.importorskip("wandb.sdk")
    env = {"WANDB_MODE": "offline", "HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    found = []
    for how in ("fresh", "resumed"):
        command = [sys.executable, "-c", REAL, str(tmp_path), how]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "wandb.json").read_text())["id"])
    assert found[0] == found[1]
    runs = sorted((tmp_path / "wandb").glob(f"offline-run-*-{found[0]}"))
    for run in runs:
        history = offline_history(run / f"run-{found[0]}.wandb")
        assert [step for step, _ in history] == [0, 1, 2]  # each iteration once, at its number
        assert [values["loss"] for _, values in history] == [0, 1, 2]
        assert all(math.isnan(values["bad"]) and values["worse"] == math.inf for _, values in history)
        assert [values.get("vis/a/_type") for _, values in history] == [None, "image-file", None]
    (picture,) = runs[0].rglob("*.png")
    expected = np.arange(90, dtype=np.uint8).reshape(3, 5, 6).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(Image.open(picture)), expected)
