"""Mistakes in a config or a data set: each ends in one sentence before anything is trained."""

import os
import shutil

from .registry import NOTHING, fault

SENTENCE = "one sentence, exit code 1, before the first step"


def refused(runs, *opts, words=None):
    out = runs.new()
    error = runs.train(*(words or runs.pretraining()), *opts, "OUTPUT_DIR", out).error()
    assert not (out / "model_final.pth").exists()
    return error


@fault("unknown config key", "two letters of MODEL.PIXPRO.POS_RATIO exchanged", quick=True)
def unknown_key(runs):
    assert "did you mean MODEL.PIXPRO.POS_RATIO?" in refused(runs, "MODEL.PIXPRO.POS_RATOI", 0.5)
    return f"{SENTENCE}; names the key that was meant", NOTHING


@fault("config value of another type", "SOLVER.MAX_ITER many", quick=True)
def wrong_type(runs):
    assert "MAX_ITER" in refused(runs, "SOLVER.MAX_ITER", "many")
    return SENTENCE, NOTHING


IMPOSSIBLE = {
    "SOLVER.IMS_PER_BATCH": 0,
    "SOLVER.MAX_ITER": -1,
    "SOLVER.CHECKPOINT_PERIOD": 0,
    "SOLVER.METRICS_PERIOD": 0,
    "INPUT.PIXPRO.CROP_SIZE": 50,
    "INPUT.PIXPRO.MIN_SCALE": 2.0,
    "MODEL.PIXPRO.METHOD": "magic",
    "DATALOADER.MAX_IMAGE_PIXELS": 0,
    "MODEL.DEVICE": "abacus",
}


@fault("impossible config values", f"{len(IMPOSSIBLE)}, such as SOLVER.IMS_PER_BATCH 0", quick=True)
def impossible(runs):
    wrong = [key for key, value in IMPOSSIBLE.items() if key.rpartition(".")[2] not in _said(runs, key, value)]
    assert not wrong, wrong
    return f"each {SENTENCE}, with the key", NOTHING


def _said(runs, key, value):
    try:
        return refused(runs, key, value)
    except Exception as error:  # tells which of them
        return f"{type(error).__name__}"


@fault("config cut off", "a copy of quickstart.yaml that ends within a string", quick=True)
def cut_off_config(runs):
    path = runs.new("config.yaml")
    path.write_text('MODEL:\n  WEIGHTS: "model')
    assert str(path) in runs.train("--config-file", path).error()
    return SENTENCE, NOTHING


@fault("annotations cut off", "a COCO JSON truncated to half its size", quick=True)
def cut_off_annotations(runs):
    path = runs.new("train.json")
    shutil.copy(runs.scenes / "annotations" / "train.json", path)
    os.truncate(path, path.stat().st_size // 2)
    data = ["DATASETS.TRAIN", f"('coco:{path}@{runs.scenes}/JPEGImages',)"]
    assert str(path) in refused(runs, *data, words=runs.detection())
    return SENTENCE, NOTHING
