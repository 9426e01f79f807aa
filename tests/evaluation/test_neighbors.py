"""Nearest neighbours among the test images themselves, by hand."""

import math

import numpy as np
import pytest
import torch
from data_helpers import logged
from detectron2.modeling import build_model
from PIL import Image

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.evaluation import neighbors
from pixpro_d2.evaluation.neighbors import evaluate_neighbors, leave_one_out

ANGLES = [0, 11, 20, 90, 100]  # degrees
LABELS = [0, 0, 1, 1, 1]


@pytest.mark.parametrize("at_once", [2, 64])
def test_no_image_votes_for_itself(monkeypatch, at_once):
    monkeypatch.setattr(neighbors, "QUERIES_AT_ONCE", at_once)
    angles = torch.tensor(ANGLES).deg2rad()
    features, labels = torch.stack((angles.cos(), angles.sin()), dim=1), torch.tensor(LABELS)
    # The nearest other is of the same class for those at 0, 90 and 100 degrees.
    assert leave_one_out(features, labels, [1], 0.07) == {"knn1_top1": 60}
    # All four others vote: against both of class 0, and for 20 degrees the two of class 0 lie closer.
    assert leave_one_out(features, labels, [9], 1.0) == {"knn9_top1": 40}


def test_one_image_has_no_neighbours():
    found = leave_one_out(torch.ones(1, 1), torch.tensor([0]), [1, 20], 0.07)
    assert list(found) == ["knn1_top1", "knn20_top1"] and all(map(math.isnan, found.values()))


def test_colours_are_told_apart_and_the_model_stays_as_it_is(tmp_path):
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (tmp_path / name).mkdir()
        for i in range(4):
            noise = np.random.default_rng(i).integers(-20, 20, (40, 40, 3))
            Image.fromarray(np.uint8(np.array(colour) + noise)).save(tmp_path / name / f"{i}.png")
    name = f"classes:{tmp_path}"
    ensure_registered([name])
    size = ["INPUT.CLASSIFICATION.CROP_SIZE", 32, "INPUT.CLASSIFICATION.RESIZE", 32]
    cfg = configs.tiny("DATASETS.TEST", (name,), "MODEL.CLASSIFIER.NEIGHBORS", [1, 3], *size)
    model = build_model(cfg).train()
    model.backbone.bottom_up.stem.eval()
    modes = [part.training for part in model.modules()]
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    (tmp_path / "red/4.png").write_bytes(b"cut off")
    with logged("pixpro_d2.data.downstream.build") as messages:
        assert evaluate_neighbors(cfg, model, name) == {"knn1_top1": 100, "knn3_top1": 100}
    assert len(messages) == 1 and "red/4.png" in messages[0]
    assert torch.equal(torch.get_rng_state(), state) and [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
