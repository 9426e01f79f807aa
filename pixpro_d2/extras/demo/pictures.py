"""Draw the pictures of the demo: pairs, features before and after, segmentations from both initialisations."""

from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image

from ...command_line import as_words
from ...data import ensure_registered
from ...engine.configuration.configure import load_config, resolve_sync_bn
from ...engine.pretrained import load_pretrained
from ...engine.trainer import Trainer
from ...utils.files import write_file
from ...visualization.comparisons import picture_features
from ...visualization.figures import contact_sheet
from ...visualization.pairs import picture_pairs, stride_of
from ...visualization.predictions import LabelledImages, picture_predictions
from ...visualization.views import ViewSource, compare_views
from ..study.experiments import Experiment

MAX_SCENES = 4  # scenes in each picture


def save(picture: Image.Image, path: Path) -> Path:
    """Write a picture as PNG, and return its path."""
    write_file(str(path), lambda partial: picture.save(partial, format="PNG"))
    return path


def draw_pairs(pretraining: Experiment) -> Image.Image:
    """Draw the positive pairs of an image, as a pre-training sees them."""
    cfg = _config(pretraining)
    source, image = ViewSource(cfg), _images(cfg)[0]
    return picture_pairs(source, image, source.mapper(image, np.random.default_rng(4)), stride_of("p3"))


def draw_features(pretraining: Experiment, weights: Path) -> Image.Image:
    """Draw the features of a few images as colours, with random weights above and the weights of a file below."""
    cfg = _config(pretraining)
    rows = []
    for path in ("", str(weights)):
        loaded = load_pretrained(cfg, path, seed=0)
        source = ViewSource(cfg, correspondence=loaded.model.correspondence)
        plain = [source.subject(image, (0, i)).plain for i, image in enumerate(_images(cfg)[:MAX_SCENES])]
        views = [source.images(sample)[0] for sample in plain]
        rows.append(picture_features(compare_views(loaded.model, plain), views, loaded.note)[0])
    return contact_sheet(rows)


def draw_segmentations(fine_tunings: dict[str, tuple[Experiment, Path]], name: str) -> Image.Image:
    """Draw test scenes, their ground truth, and the prediction of each model.

    Args:
        fine_tunings: (experiment, file of its weights) by title.
        name: name of the test set.
    """
    models = {}
    for title, (experiment, path) in fine_tunings.items():
        cfg = _config(experiment)
        models[title] = Trainer.build_model(cfg)
        Trainer.initialize(cfg, models[title], str(path), complete=True)
    data = LabelledImages(cfg, name, Trainer.build_test_loader)
    return contact_sheet(
        [picture_predictions(data.read(i), models, 0.5) for i in range(min(MAX_SCENES, len(data.records)))]
    )


def _config(experiment: Experiment) -> CfgNode:
    cfg = load_config(experiment.config, as_words(experiment.options))
    resolve_sync_bn(cfg)
    return cfg


def _images(cfg: CfgNode) -> list[dict[str, Any]]:
    ensure_registered(cfg.DATASETS.TRAIN)
    return DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
