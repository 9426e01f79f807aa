"""``imagenet_train`` and ``imagenet_val`` below ``$DETECTRON2_DATASETS/imagenet``."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import UsageError
from ..reader import zip_member
from .images import list_images


def load_imagenet(root, split):
    """Dataset dicts of one split, with ``category_id``.

    Either ``root/split/<wnid>/*.JPEG`` (classes numbered in the order of their sorted folder names), or
    ``root/split.zip`` with ``root/split_map.txt``, whose lines are a path in the archive, a tab and a class number.

    Raises:
        UsageError: where neither is there, or the map is malformed.
    """
    folder = os.path.join(root, split)
    archive, map_file = f"{folder}.zip", f"{folder}_map.txt"
    if os.path.isdir(folder):
        paths = list_images(folder)
        wnids = [os.path.relpath(path, folder).split(os.sep)[0] for path in paths]
        number = {wnid: i for i, wnid in enumerate(sorted(set(wnids)))}
        items = [(path, number[wnid]) for path, wnid in zip(paths, wnids)]
    elif os.path.isfile(archive) and os.path.isfile(map_file):
        items = [(zip_member(archive, member), label) for member, label in _read_map(map_file)]
    else:
        raise UsageError(
            f"ImageNet is not in {os.path.abspath(root)}: put {split}/<wnid>/*.JPEG or {split}.zip with "
            f"{split}_map.txt there, or set DETECTRON2_DATASETS to the folder that holds imagenet/."
        )
    return [{"file_name": path, "image_id": i, "category_id": label} for i, (path, label) in enumerate(items)]


def _read_map(map_file):
    with open(map_file) as file:
        for number, line in enumerate(file, start=1):
            member, tab, label = line.rstrip("\n").partition("\t")
            if not tab or not label.isdigit():
                raise UsageError(f"{map_file}, line {number}: expected a path, a tab and a class number.")
            yield member, int(label)


def register_imagenet(root):
    """Register both splits; ``root`` is the folder that holds ``imagenet/``."""
    for split in ("train", "val"):
        name = f"imagenet_{split}"
        DatasetCatalog.register(name, lambda split=split: load_imagenet(os.path.join(root, "imagenet"), split))
        MetadataCatalog.get(name).set(evaluator_type="classification")
