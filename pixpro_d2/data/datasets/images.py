"""``images:DIR``: all images below a folder, without annotations."""

import os

from detectron2.data import DatasetCatalog

from ...errors import UsageError
from .paths import check_exists

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def list_images(root):
    """Paths of all image files below ``root``, sorted, links followed; files are told by their extension.

    Raises:
        UsageError: when there are none.
    """
    found, visited = [], set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link back to a folder above would have no end
            subfolders.clear()
            continue
        visited.add(real)
        subfolders.sort()
        found.extend(os.path.join(folder, name) for name in sorted(files) if name.lower().endswith(EXTENSIONS))
    if not found:
        raise UsageError(f"No image file ({', '.join(EXTENSIONS)}) below the folder {root}.")
    return found


def register_images(name, root):
    """Register the folder tree ``root`` as data set ``name``."""
    check_exists(name, root)
    DatasetCatalog.register(
        name, lambda: [{"file_name": path, "image_id": i} for i, path in enumerate(list_images(root))]
    )
