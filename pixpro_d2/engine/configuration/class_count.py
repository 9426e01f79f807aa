"""Take the number of classes from the data set, unless it has been set for this data set."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...config_files import base_path, config_path
from ...data.datasets.catalog import load_dicts
from ...data.datasets.semseg import add_absent_classes
from ...data.downstream.tasks import TASKS, Labels, are_counted
from ...utils.nested import flatten, set_value, value_of

LISTED_WHEN_LOADED = ("coco:", "semseg:")  # the files of these data sets list the classes


def resolve_class_count(cfg: CfgNode, config_file: str, options: Collection[str], data_key: str) -> str:
    """Give the model as many classes as its data set lists, in place, unless the number was set for this data set.

    A number that was set before the data set is the number of another data set: a recipe's number, if the command line
    or a file based on the recipe names the data. A number that was set later or in the same place stays; a number that
    disagrees with the data is an error of :func:`pixpro_d2.data.downstream.tasks.check_classes`.

    An evaluation of a run with its own config keeps the number of the run if the classes are only counted in the test
    labels, because the highest class may be absent there.

    Args:
        cfg: config of any task, with registered data sets.
        config_file: file or name of the config.
        options: keys of the command line.
        data_key: DATASETS.TRAIN, or DATASETS.TEST for an evaluation.

    Returns:
        A sentence about the new number, for the log; "" if the number stays.
    """
    if cfg.MODEL.META_ARCHITECTURE not in TASKS:
        return ""
    labels, node = TASKS[cfg.MODEL.META_ARCHITECTURE]
    key = f"MODEL.{node}.NUM_CLASSES"
    if data_key == "DATASETS.TEST" and _is_own_config(config_file, cfg):
        for name in cfg.DATASETS.TEST:
            if name.startswith("semseg:") and _count(labels, name) and are_counted(name):
                add_absent_classes(name, value_of(cfg, key))
    layers = _layers(config_path(config_file)) if config_file else []
    places = [*map(flatten, layers), dict.fromkeys(options)]
    if _last_place(data_key, places) <= _last_place(key, places):
        return ""
    counted = ((name, _count(labels, name)) for name in value_of(cfg, data_key))
    name, number = next((pair for pair in counted if pair[1] is not None), ("", None))
    if number in (None, value_of(cfg, key)):
        return ""
    set_value(cfg, key, number)
    return f"{key} is {number}, the number of classes of data set '{name}'."


def _is_own_config(config_file: str, cfg: CfgNode) -> bool:
    """Return whether a config file lies beside the weights or in OUTPUT_DIR, as the config.yaml of the run."""
    folders = {cfg.OUTPUT_DIR, *([os.path.dirname(cfg.MODEL.WEIGHTS)] if cfg.MODEL.WEIGHTS else [])}
    return bool(config_file) and os.path.dirname(os.path.abspath(config_file)) in map(os.path.abspath, folders)


def _count(labels: Labels, name: str) -> int | None:
    """Return the number of classes that data set ``name`` lists; None if it lists none."""
    metadata = MetadataCatalog.get(name)
    if metadata.get(labels.classes, None) is None and name.startswith(LISTED_WHEN_LOADED):
        load_dicts(name)
    classes = metadata.get(labels.classes, None)
    return None if classes is None else len(classes)


def _layers(path: str) -> list[Mapping[str, Any]]:
    """Return the values of a config file and of the files that it is based on, the file itself last."""
    with PathManager.open(path) as file:
        values = yaml.safe_load(file) or {}
    bases = values.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    paths = [os.path.expanduser(base_path(base, path)) for base in bases]
    below = [layer for base in paths for layer in _layers(os.path.join(os.path.dirname(path), base))]
    return [*below, values]


def _last_place(key: str, places: Sequence[Mapping[str, Any]]) -> int:
    """Return the index of the last place that sets a key; -1 for a key that keeps its default."""
    return max((i for i, values in enumerate(places) if key in values), default=-1)
