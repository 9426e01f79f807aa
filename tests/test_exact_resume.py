"""A run that is cut off and resumed gives the same weights as one that is not, to the bit: real commands."""

import shutil
import time

import cli
import forked
import pytest
import torch
from archive_helpers import WRITERS
from distillation_helpers import save_script
from downstream import CLASSES, FCOS, RETINANET, VOC_SEG, options

import configs
from pixpro_d2.extras.scenes.render_dataset import render_dataset

pytestmark = pytest.mark.slow

PERIOD = ["SOLVER.MAX_ITER", 7, "SOLVER.CHECKPOINT_PERIOD", 3]
NORMS = ["TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2]
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.MIN_SIZE_TEST", 64, "SOLVER.BASE_LR", 0.01]
NETWORK = ["MODEL.RESNETS.DEPTH", 50, *configs.NARROW]
LAYOUT = [*configs.TINY_DETECTOR, *SMALL, *NETWORK]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("resume") / "scenes"
    render_dataset(out, train=10, test=2, size=96, layouts=("voc", "classes"))
    for ending, write in WRITERS.items():
        write(out / f"images.{ending}", out / "JPEGImages")
    save_script(out / "teacher.pt")
    return out


def pretraining(config, *images):
    return lambda scenes: [
        *("--config-file", f"configs/pretrain/{config}.yaml"),
        *("DATASETS.TRAIN", str(tuple(f"images:{scenes}/{name}" for name in images))),
        *(*configs.TINY, *NETWORK),
        *("MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 64, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 8),
    ]


def distillation(scenes):
    return [*pretraining("distill_fpn", "JPEGImages")(scenes), "MODEL.PIXPRO.DISTILL.TEACHER", scenes / "teacher.pt"]


def detection(scenes):
    args = ["--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *LAYOUT, *NORMS]
    return [*args, "DATASETS.TRAIN", f"('voc:{scenes}@train',)", "MODEL.ROI_HEADS.NUM_CLASSES", 5]


TASKS = {
    "archives": pretraining("quickstart", "images.zip", "images.tar"),
    "densecl": pretraining("densecl_c5_200ep", "JPEGImages"),
    "slotcon": pretraining("slotcon_fpn", "JPEGImages"),
    "distillation": distillation,
    "detection": detection,
}


@pytest.fixture(scope="module")
def backbone(scenes):
    """A pre-trained checkpoint, after one iteration."""
    args = ["--config-file", "configs/pretrain/pixpro_c5_100ep.yaml"]
    args += ["DATASETS.TRAIN", f"('images:{scenes}/JPEGImages',)", *configs.TINY, *configs.NARROW]
    cli.run_here(*args, "SOLVER.MAX_ITER", 1, "OUTPUT_DIR", scenes.parent / "c5")
    return scenes.parent / "c5" / "model_final.pth"


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def assert_same(folder, other):
    """Weights, and what the optimiser keeps."""
    ours, theirs = weights(folder), weights(other)
    for name, value in theirs["model"].items():
        assert torch.equal(ours["model"][name], value), name
    ours, theirs = (x["trainer"]["_trainer"]["optimizer"]["state"] for x in (ours, theirs))
    assert theirs.keys() == ours.keys() and len(theirs) > 0
    for i, state in theirs.items():
        assert torch.equal(ours[i]["momentum_buffer"], state["momentum_buffer"])


ONE_STAGE = [("voc:{}@train", "voc:{}@test"), *RETINANET, *FCOS]
RECIPES = {
    "voc/fcn_R_50_30k": VOC_SEG,
    "imagenet/linear_R_50_100ep": CLASSES,
    "coco/retinanet_R_50_FPN_1x": ONE_STAGE,
    "coco/fcos_R_50_FPN_1x": ONE_STAGE,
}


def resume_in_the_middle(args, folder):
    """Train to the end, then again from a checkpoint of this run, with a worker: both give the same."""
    first = "model_0000002.pth"
    cli.run_here(*args, *PERIOD, "SOLVER.CHECKPOINT_KEEP_LAST", 0, "OUTPUT_DIR", folder / "straight")
    (folder / "resumed").mkdir()
    shutil.copy(folder / "straight" / first, folder / "resumed")
    (folder / "resumed" / "last_checkpoint").write_text(first)
    cli.run_here("--resume", *args, *PERIOD, "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", folder / "resumed")
    assert_same(folder / "resumed", folder / "straight")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_resumed_in_the_middle(scenes, backbone, tmp_path, recipe):
    """The other loaders: label maps with random scales, crops and flips; and torchvision's augmentation.

    One-stage detectors divide their losses by a mean of past iterations.
    """
    args = ["--config-file", f"configs/{recipe}.yaml", *options(scenes, *RECIPES[recipe]), *configs.NARROW]
    resume_in_the_middle([*args, "MODEL.WEIGHTS", backbone, "TEST.EVAL_PERIOD", 0], tmp_path)


@pytest.mark.parametrize("task", TASKS)
def test_resumed_in_the_middle(scenes, tmp_path, task):
    """7 iterations, on 10 images in batches of 4 or 2: from the middle of an epoch into the next one."""
    resume_in_the_middle(TASKS[task](scenes), tmp_path)


def kill_after(process, path):
    """Kill a process as soon as a file is there."""
    deadline = time.monotonic() + 300
    while not path.is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_killed_and_resumed_with_other_workers(scenes, tmp_path):
    """13 iterations, on 10 images in batches of 4: the kill comes in the middle of an epoch."""
    args = [*pretraining("quickstart", "JPEGImages")(scenes), *PERIOD, "SOLVER.MAX_ITER", 13]
    cli.run(*args, "OUTPUT_DIR", tmp_path / "straight")
    folder = tmp_path / "killed"
    words = [*args, "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", folder]
    kill_after(forked.Program("train_net.py", words, tmp_path / "log.txt"), folder / "model_0000002.pth")
    assert not (folder / "model_final.pth").exists()
    output = cli.run("--resume", *args, "DATALOADER.NUM_WORKERS", 2, "OUTPUT_DIR", folder)
    assert any(f"Starting training from iteration {i}\n" in output for i in (3, 6, 9, 12))
    assert_same(folder, tmp_path / "straight")
    assert cli.metrics(folder)[-1]["lr"] == cli.metrics(tmp_path / "straight")[-1]["lr"]


@pytest.mark.parametrize("config", ["voc/faster_rcnn_R_18_FPN_small", "cityscapes/deeplab_v3_R_50_40k"])
def test_allowed_changes_hold(scenes, tmp_path, config):
    """A fourth iteration with other values of the optimiser: of detectron2's schedule and of DeepLab's."""
    if config.startswith("voc"):
        args = detection(scenes)
        rate = 0.002  # no warm-up, and no step yet
    else:
        args = [
            "--config-file",
            f"configs/{config}.yaml",
            *options(scenes, *VOC_SEG),
            *configs.NARROW,
            "--init",
            "random",
        ]
        rate = 0.002 * (1 - 3 / 4) ** 0.9
    length = ["SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", "(100,)", "TEST.EVAL_PERIOD", 0, "OUTPUT_DIR", tmp_path / "out"]
    cli.run_here(*args, *length, "SOLVER.MAX_ITER", 3)
    (tmp_path / "out/model_final.pth").rename(tmp_path / "out/model_0000002.pth")
    (tmp_path / "out/last_checkpoint").write_text("model_0000002.pth")
    values = ["SOLVER.BASE_LR", 0.002, "SOLVER.WEIGHT_DECAY", 0.02, "SOLVER.MOMENTUM", 0.5]
    cli.run_here("--resume", "--allow-changes", *args, *length, *values, "SOLVER.MAX_ITER", 4)
    rates = [line["lr"] for line in cli.metrics(tmp_path / "out") if line["iteration"] == 3 and "lr" in line]
    assert rates == [pytest.approx(rate)]
    groups = weights(tmp_path / "out")["trainer"]["_trainer"]["optimizer"]["param_groups"]
    assert {group["momentum"] for group in groups} == {0.5} and max(group["weight_decay"] for group in groups) == 0.02


def test_a_drawn_seed_is_kept(scenes, tmp_path):
    """SEED -1: what is drawn at the start holds for the resumed run, which is seen in its weights."""
    args = [*pretraining("pixpro_c5_100ep", "JPEGImages")(scenes), "SEED", -1, "SOLVER.MAX_ITER", 2]
    args += ["SOLVER.CHECKPOINT_PERIOD", 1, "OUTPUT_DIR", tmp_path / "out"]
    cli.run_here(*args)
    expected = weights(tmp_path / "out")["model"]
    for name in ("model_0000001.pth", "model_final.pth"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000000.pth")
    cli.run_here("--resume", *args)
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "out")["model"].items())
