"""The launcher: several processes, and mistakes reported in one sentence."""

import socket
import sys

import cli
import pytest
import torch

import configs
from pixpro_d2.tools.render import render_dataset


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("launch") / "scenes"
    render_dataset(out, train=8, test=2, size=96)
    return out


def args(scenes, folder, *opts):
    words = ["--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{scenes}',)"]
    return [*words, *configs.TINY, *opts, "OUTPUT_DIR", folder]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


NO_NORM = [
    "MODEL.RESNETS.NORM",
    "",
    "MODEL.FPN.NORM",
    "",
    "MODEL.PIXPRO.NORM",
    "",
    "MODEL.PIXPRO.ZERO_INIT_RESIDUAL",
    False,
]


@pytest.mark.slow
@pytest.mark.parametrize("norm, steps", [([], 1), (NO_NORM, 1), (NO_NORM, 2)], ids=["synced", "off", "accumulated"])
def test_two_processes_equal_one(scenes, tmp_path, norm, steps):
    """The same global batch split between two gloo processes, and in each into ``steps`` parts: losses to 1e-5, weights
    alike."""
    runs = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        opts = [*norm, "SOLVER.MAX_ITER", 3, "SOLVER.METRICS_PERIOD", 1, "SOLVER.BASE_LR", 0.1]
        launch = ["--num-gpus", processes, "--dist-url", f"tcp://127.0.0.1:{free_port()}"]
        cli.run(*launch, *args(scenes, folder, *opts, "SOLVER.ACCUMULATION_STEPS", steps if processes == 2 else 1))
        runs[processes] = cli.metrics(folder)[-1], torch.load(folder / "model_final.pth", weights_only=True)["model"]
    for name in ("loss_pix_p3", "loss_pix_p4", "loss_pix_p5", "loss_pix_p6", "total_loss"):
        assert runs[1][0][name] == pytest.approx(runs[2][0][name], abs=1e-5)
    for name in ("backbone.bottom_up.stem.conv1.weight", "target_projector.heads.shared.0.weight"):
        torch.testing.assert_close(runs[1][1][name], runs[2][1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_torchrun(scenes, tmp_path):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    launcher += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    output = cli.run(*args(scenes, tmp_path / "out", "SOLVER.MAX_ITER", 1), launcher=launcher)
    assert "World size: 2" in output and (tmp_path / "out" / "model_final.pth").is_file()


def mistakes(scenes, tmp_path):
    (tmp_path / "empty").mkdir(exist_ok=True)
    return {
        "unknown key": ([*args(scenes, tmp_path / "o"), "MODEL.PIXPRO.GAMA", "1"], "There is no config key"),
        "empty folder": (
            [*args(scenes, tmp_path / "o"), "DATASETS.TRAIN", f"('images:{tmp_path}/empty',)"],
            "No image",
        ),
        "odd batch": (
            ["--num-gpus", "2", *args(scenes, tmp_path / "o", "SOLVER.IMS_PER_BATCH", 3)],
            "IMS_PER_BATCH is 3",
        ),
        "nothing to evaluate": (["--eval-only", *args(scenes, tmp_path / "o")], "needs data sets in DATASETS.TEST"),
        "classes": (
            ["--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *configs.TINY_DETECTOR]
            + ["DATASETS.TRAIN", f"('voc:{scenes}@train',)", "OUTPUT_DIR", tmp_path / "o"],
            "MODEL.ROI_HEADS.NUM_CLASSES is 80, but data set .* has 5 classes: set it to 5",
        ),
        "no annotations": (
            ["--eval-only", "--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *configs.TINY_DETECTOR]
            + ["DATASETS.TEST", f"('images:{scenes}',)", "OUTPUT_DIR", tmp_path / "o"],
            "cannot be evaluated",
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["unknown key", "empty folder", "odd batch", "nothing to evaluate", "classes", "no annotations"]
)
def test_mistakes_end_in_one_sentence(scenes, tmp_path, name):
    words, message = mistakes(scenes, tmp_path)[name]
    code, output = cli.train_net(*words)
    assert code != 0 and "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert errors and __import__("re").search(message, errors[0])
    assert not (tmp_path / "o" / "model_final.pth").exists()


@pytest.mark.slow
def test_a_diverging_run_stops_and_saves_nothing(scenes, tmp_path):
    opts = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1e30, "SOLVER.MAX_ITER", 8, "SOLVER.CHECKPOINT_PERIOD", 100]
    code, output = cli.train_net(*args(scenes, tmp_path / "o", *opts, *NO_NORM))
    assert code != 0 and "became infinite or NaN between iterations 0 and 7" in output
    assert not list((tmp_path / "o").glob("*.pth"))
