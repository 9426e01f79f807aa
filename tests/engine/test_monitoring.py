"""Monitors without labels during training, and that training does not notice."""

import json
import math
import shutil

import pytest
import torch
from data_helpers import logged, write_images
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.hooks import HealthHook
from pixpro_d2.monitoring.curves import read_curves

RECORDED = [f"{name}/p4" for name in ("match_accuracy", "chance", "effective_rank", "uniformity", "test/feature_std")]
RECORDED += ["test/images_without_pair/p4", "ema_distance", "knn/knn1_top1"]


def train(images, folder, *monitors):
    opts = ["DATASETS.TRAIN", (f"images:{images}",), "OUTPUT_DIR", str(folder), "MODEL.PIXPRO.IN_FEATURES", ["p4"]]
    opts += ["SOLVER.MAX_ITER", 5, "SOLVER.METRICS_PERIOD", 1, "MODEL.CLASSIFIER.NEIGHBORS", [1]]
    opts += ["INPUT.CLASSIFICATION.CROP_SIZE", 32, "INPUT.CLASSIFICATION.RESIZE", 32]
    cfg = configs.tiny(*opts, *monitors)
    ensure_registered(cfg.DATASETS.TEST)
    torch.manual_seed(1)
    trainer = Trainer(cfg)
    trainer.resume_or_load()
    trainer.train()
    return trainer


def monitors(images):
    return ["DATASETS.TEST", (f"classes:{images}",), "TEST.EVAL_PERIOD", 2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(trainer, folder, log) of a run of five iterations with monitors, and of one without."""
    images = tmp_path_factory.mktemp("monitoring") / "images"
    for name in ("a", "b"):
        write_images(images / name, 4, size=(60, 80))
    found = []
    for opts in (monitors(images), []):
        folder = tmp_path_factory.mktemp("run")
        with logged("pixpro_d2") as messages:
            found.append((train(images, folder, *opts), folder, messages))
    return found


def test_training_does_not_notice(runs):
    (monitored, *_), (plain, *_) = runs
    ours, theirs = (trainer.checkpointer.model.state_dict() for trainer in (monitored, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    losses = [trainer.storage.history("total_loss").values() for trainer in (monitored, plain)]
    assert losses[0] == losses[1] and len(losses[0]) == 5


def test_values_of_every_period_and_of_the_end(runs):
    trainer, folder, _ = runs[0]
    written, _ = read_curves(folder / "metrics.json")
    for name in RECORDED:
        iterations = [i for _, i in trainer.storage.history(name).values()]
        assert iterations == [1, 3, 5], name  # at the end detectron2 has counted on
        assert [i for i, _ in written[name]] == iterations, name
    distances = [value for value, _ in trainer.storage.history("ema_distance").values()]
    assert 0 < distances[0] < distances[1] < distances[2] < 1
    lines = [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]
    assert lines == sorted(set(lines))


def test_the_log_says_how_the_run_looks(runs):
    said = [message for message in runs[0][2] if message.startswith("After ")]
    assert [message.split(":")[0] for message in said] == [f"After {i} iterations" for i in (2, 4, 5)]
    assert all("Too early to tell" in message for message in said)  # metrics.json has three lines with a loss


class Recorded(HookBase):
    """What a hook needs of a trainer that has recorded ``curves``, name -> values."""

    def __init__(self, curves, max_iter, start_iter=0):
        self.iter = self.start_iter = start_iter
        self.max_iter, self.storage = max_iter, EventStorage()
        for i in range(start_iter, max_iter):
            self.storage.iter = i
            self.storage.put_scalars(**{name: values[i] for name, values in curves.items()})


@pytest.mark.parametrize(
    ("std", "says"), [(0.2, "Worth a look: 2 steps"), (0.02, "Looks unhealthy: the features of p3")]
)
def test_collapse_and_steps_left_out_are_said(std, says, tmp_path):
    trainer = Recorded(
        {"total_loss": range(6, 0, -1), "feature_std/p3": [std] * 6, "skipped_steps": [1, 2, 2, 2, 2, 2]}, 6
    )
    hook = HealthHook(3, 0.1, 16, tmp_path)
    hook.trainer = trainer
    said = []
    with logged("pixpro_d2.engine.hooks") as messages:
        for trainer.iter in range(6):
            hook.after_step()
            said.append(len(messages))
        trainer.iter = 6
        hook.after_train()
    assert said == [0, 0, 1, 1, 1, 1] and len(messages) == 2
    assert messages[-1].startswith(f"After 6 iterations: {says}")


def test_parts_of_a_batch_are_one_reading(tmp_path):
    """Three iterations of two parts: too few readings to call the features collapsed."""
    hook = HealthHook(0, 0.1, 16, tmp_path)
    hook.trainer = Recorded({"total_loss": [3.0, 2.0, 1.0], "feature_std/p3": [0.001] * 3}, 3)
    for i in range(3):
        hook.trainer.storage.iter = i
        hook.trainer.storage.put_scalar("feature_std/p3", 0.001)
    hook.trainer.iter = 3
    with logged("pixpro_d2.engine.hooks") as messages:
        hook.after_train()
    assert len(messages) == 1 and "Too early to tell" in messages[0]


@pytest.mark.parametrize(("length", "says"), [(80, "Too early to tell"), (100, "the loss has not fallen")])
def test_only_the_values_of_metrics_json_are_readings(tmp_path, length, says):
    """A value of each iteration, and a line of every 20: five lines are the readings of 100 iterations."""
    hook = HealthHook(0, 0.1, 16, tmp_path, written=20)
    hook.trainer = Recorded({"total_loss": [1.0] * length}, length)
    hook.trainer.iter = length
    with logged("pixpro_d2.engine.hooks") as messages:
        hook.after_train()
    assert len(messages) == 1 and says in messages[0]


@pytest.mark.parametrize(("start", "says"), [(6, "the loss fell from 9 to 3"), (0, "the loss has not fallen")])
def test_a_resumed_run_is_judged_as_a_whole(tmp_path, start, says):
    """It had come to 9 and goes on from 6, where the loss no longer falls; a new run ignores what lies there."""
    lines = [{"iteration": i, "total_loss": 9.0 - i, "effective_rank/p3": 5 if i < 6 else math.nan} for i in range(9)]
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    hook = HealthHook(0, 0.1, 16, tmp_path)
    hook.trainer = Recorded({"total_loss": [3.0] * 30}, 30, start)
    with logged("pixpro_d2.engine.hooks") as messages:
        hook.before_train()
        hook.trainer.iter = 30
        hook.after_train()
    assert len(messages) == 1 and says in messages[0]


def test_a_finished_run_does_not_go_past_its_end(runs, tmp_path):
    finished, folder, _ = runs[0]
    images = finished.cfg.DATASETS.TEST[0].removeprefix("classes:")
    again = shutil.copytree(folder, tmp_path / "run")
    before = (again / "metrics.json").read_text().splitlines()
    with logged("pixpro_d2") as messages:
        trainer = train(images, again, *monitors(images))
    assert trainer.start_iter == 5
    assert [message.split(":")[0] for message in messages if message.startswith("After ")] == ["After 5 iterations"]
    added = (again / "metrics.json").read_text().splitlines()[len(before) :]
    assert [json.loads(line)["iteration"] for line in added] == [5]


def test_a_failed_run_is_not_judged(tmp_path):
    hook = HealthHook(0, 0.1, 16, tmp_path)
    hook.trainer = Recorded({"total_loss": [1.0] * 6}, 6)
    hook.trainer.iter = 5  # in the last one
    with logged("pixpro_d2.engine.hooks") as messages:
        hook.after_step(), hook.after_train()
    assert not messages


@pytest.mark.parametrize(("period", "expected"), [(-1, 20), (0, 20), (7, 7), (50, 20)])
def test_values_are_written_at_least_as_often_as_there_is_an_evaluation(tmp_path, period, expected):
    write_images(tmp_path / "images", 4, size=(60, 80))
    data = f"images:{tmp_path}/images"
    cfg = configs.tiny("DATASETS.TRAIN", (data,), "OUTPUT_DIR", str(tmp_path), "TEST.EVAL_PERIOD", period)
    (writer,) = [hook for hook in Trainer(cfg).build_hooks() if isinstance(hook, PeriodicWriter)]
    assert writer._period == expected
