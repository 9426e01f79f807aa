"""The program as a whole: inside torchrun, and how mistakes and faults end it. More processes: tests/distributed."""

import re
import sys

import cli
import pytest
from faults.runs import NETWORK
from rendering import render_once
from torch.distributed.elastic.utils.distributed import get_free_port

import configs

scenes = render_once(train=8, test=2, size=96)


def args(scenes, folder, *opts):
    words = ["--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{scenes}',)"]
    return [*words, *configs.TINY, *NETWORK, *opts, "OUTPUT_DIR", folder]


@pytest.mark.slow
def test_torchrun(scenes, tmp_path):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    launcher += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{get_free_port()}")
    output = cli.run(*args(scenes, tmp_path / "out", "SOLVER.MAX_ITER", 1), launcher=launcher)
    assert (tmp_path / "out" / "model_final.pth").is_file(), output
    assert "Process 0 of 2" in (tmp_path / "out" / "log.txt").read_text()


def mistakes(scenes, tmp_path):
    (tmp_path / "empty").mkdir(exist_ok=True)
    return {
        "empty folder": (
            [*args(scenes, tmp_path / "o"), "DATASETS.TRAIN", f"('images:{tmp_path}/empty',)"],
            "No image",
        ),
        "odd batch": (
            ["--num-gpus", "2", *args(scenes, tmp_path / "o", "SOLVER.IMS_PER_BATCH", 3)],
            "IMS_PER_BATCH is 3",
        ),
        "nothing to evaluate": (["--eval-only", *args(scenes, tmp_path / "o")], "The evaluation has no data set"),
        "no annotations": (
            ["--eval-only", "--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *configs.TINY_DETECTOR]
            + ["DATASETS.TEST", f"('images:{scenes}',)", "MODEL.WEIGHTS", "any.pth", "OUTPUT_DIR", tmp_path / "o"],
            "of DATASETS.TEST has no boxes for",
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["empty folder", "odd batch", "nothing to evaluate", "no annotations"])
def test_mistakes_end_in_one_sentence(scenes, tmp_path, name):
    words, message = mistakes(scenes, tmp_path)[name]
    code, output = cli.train_net(*words)
    assert code != 0 and "Traceback" not in output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0])
    assert not (tmp_path / "o" / "model_final.pth").exists()
