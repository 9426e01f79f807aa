"""``coco:JSON@IMAGE_DIR``: annotations in COCO's format."""

import os

from detectron2.data.datasets import register_coco_instances

from ...errors import UsageError


def register_coco(name, json_file, image_root):
    """Register a COCO annotation file and its image folder as data set ``name``."""
    # Either path may hold an '@' of its own: the first one ends where there is a file.
    head, tail = json_file, image_root
    while "@" in head and not os.path.isfile(head):
        head, _, middle = head.rpartition("@")
        tail = f"{middle}@{tail}"
    if os.path.isfile(head):
        json_file, image_root = head, tail
    if not os.path.isfile(json_file):
        raise UsageError(f"Data set '{name}': there is no annotation file {os.path.abspath(json_file)}.")
    if not os.path.isdir(image_root):
        raise UsageError(f"Data set '{name}': there is no image folder {os.path.abspath(image_root)}.")
    register_coco_instances(name, {}, json_file, image_root)
