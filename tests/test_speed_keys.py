"""The keys that trade speed and memory, through the real command."""

import cli
import pytest
from rendering import render_once

import configs

scenes = render_once(train=8, test=0, size=96)


def losses(scenes, folder, *opts):
    """total_loss of three iterations; without norms, which would see another batch in each part."""
    cli.run_here(
        "--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{scenes}',)", *configs.TINY,
        "MODEL.RESNETS.NORM", "", "MODEL.FPN.NORM", "", "MODEL.PIXPRO.NORM", "", "SOLVER.BASE_LR", 0.1,
        "SOLVER.MAX_ITER", 3, "SOLVER.METRICS_PERIOD", 1, *opts, "OUTPUT_DIR", folder,
    )  # fmt: skip
    return [line["total_loss"] for line in cli.metrics(folder) if "total_loss" in line]


def test_they_change_no_result(scenes, tmp_path):
    plain = losses(scenes, tmp_path / "plain", "MODEL.PIXPRO.CHANNELS_LAST", False)
    keys = ("SOLVER.ACCUMULATION_STEPS", 2, "MODEL.PIXPRO.RECOMPUTE", True, "MODEL.PIXPRO.CHANNELS_LAST", True)
    assert losses(scenes, tmp_path / "fast", *keys) == pytest.approx(plain, abs=1e-4)


def test_the_model_augments_parts_of_a_batch(scenes, tmp_path):
    keys = ("SOLVER.ACCUMULATION_STEPS", 2, "INPUT.AUG_DEVICE", "model")
    whole = losses(scenes, tmp_path / "whole", *keys[2:])
    assert losses(scenes, tmp_path / "parts", *keys) == pytest.approx(whole, abs=1e-4)
    assert whole != pytest.approx(losses(scenes, tmp_path / "none", "INPUT.PIXPRO.AUG", "none"), abs=1e-3)
