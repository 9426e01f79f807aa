"""Define the sub-command that shows the predictions of downstream models."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from PIL import Image
from torch import nn

from ...data.datasets.catalog import ensure_registered
from ...data.downstream.tasks import class_names
from ...engine.configuration.class_count import resolve_class_count
from ...engine.trainer import Trainer
from ...extras.report.runs import short_names
from ...utils.errors import UsageError
from ...visualization.predictions import PICTURED, LabelledImages, picture_predictions
from .inputs import first_readable, load_pictures_config, name_of, write_picture


def predictions(args: argparse.Namespace) -> None:
    """Show detections or segmentations of one or several models beside the ground truth."""
    cfg = load_pictures_config(args)
    if cfg.MODEL.META_ARCHITECTURE not in PICTURED:
        raise UsageError(
            f"MODEL.META_ARCHITECTURE of {args.config_file} is {cfg.MODEL.META_ARCHITECTURE}, whose predictions are no "
            f"pictures: take a config of {', '.join(PICTURED)}."
        )
    name = args.input or next(iter(cfg.DATASETS.TEST), None)
    if name is None:
        raise UsageError("DATASETS.TEST is empty: name a labelled data set by --input, such as voc:DIR@test.")
    ensure_registered([name])
    cfg.DATASETS.TEST = (name,)
    resolve_class_count(cfg, args.config_file, [*args.opts[::2], "DATASETS.TEST"], "DATASETS.TEST")
    data = LabelledImages(cfg, name, Trainer.build_test_loader)
    models = {title: _load(cfg, path) for title, path in titles(args.weights).items()}

    def picture(number: int, record: dict[str, Any]) -> Image.Image:
        return picture_predictions(data.read(number), models, args.min_score)

    for number, record, drawn in first_readable(args, data.records, picture):
        write_picture(args, drawn, name_of(number, record))


def _load(cfg: CfgNode, path: str) -> nn.Module:
    """Return the model with the weights of a file."""
    model = Trainer.build_model(cfg)
    Trainer.initialize(cfg, model, path, complete=True, classes=class_names(cfg, cfg.DATASETS.TEST))
    return model


def titles(paths: Sequence[str]) -> dict[str, str]:
    """Return the paths by the shortest ends of their folders that differ; add the names of files in one folder."""
    unique = {path: Path(path).absolute() for path in paths}
    folders = [path.parent for path in unique.values()]
    different = list(dict.fromkeys(folders))
    names = dict(zip(different, short_names(different)))
    return {
        names[file.parent] if folders.count(file.parent) == 1 else f"{names[file.parent]}/{file.stem}": path
        for path, file in unique.items()
    }
