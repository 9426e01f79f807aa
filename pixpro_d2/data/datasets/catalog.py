"""Data sets addressed by path, wherever detectron2 takes the name of a data set.

Object boxes: ``voc:DIR@SPLIT`` Pascal VOC layout, ``coco:JSON@IMAGE_DIR`` COCO annotations and masks,
``cityscapes_instance:DIR@SPLIT`` Cityscapes layout. Semantic segmentation: ``semseg:IMAGE_DIR@LABEL_DIR`` PNG files
of class ids, ``voc_seg:DIR@SPLIT``, ``cityscapes:DIR@SPLIT``. Classification: ``classes:DIR`` one folder per class.

Pre-training accepts all these data sets, ``images:DIR`` with any folder tree of images, ``images:FILE`` with images in
zip and tar files, and ``video:DIR`` with one folder of frames per video. Several names in DATASETS.TRAIN are joined, as
in VOC 07+12.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.archives import is_archive
from ...utils.errors import UsageError
from .cityscapes import register_cityscapes, register_cityscapes_instance
from .class_folders import register_classes
from .coco import register_coco
from .images import register_images
from .semseg import register_sem_seg
from .video import register_video
from .voc import class_names, register_voc
from .voc_seg import register_voc_seg

# scheme -> (form of the name, function that registers a name; its further arguments are the parts after the colon)
SCHEMES: dict[str, tuple[str, Callable[..., None]]] = {
    "images": ("images:DIR", register_images),
    "voc": ("voc:DIR@SPLIT", register_voc),
    "coco": ("coco:JSON@IMAGE_DIR", register_coco),
    "semseg": ("semseg:IMAGE_DIR@LABEL_DIR", register_sem_seg),
    "voc_seg": ("voc_seg:DIR@SPLIT", register_voc_seg),
    "cityscapes": ("cityscapes:DIR@SPLIT", register_cityscapes),
    "cityscapes_instance": ("cityscapes_instance:DIR@SPLIT", register_cityscapes_instance),
    "classes": ("classes:DIR", register_classes),
    "video": ("video:DIR", register_video),
}
_may_be_outdated: dict[str, bool] = {}  # of each name registered by its path


def is_name(text: str) -> bool:
    """Return whether ``text`` is the name of a data set, registered or addressed by path, and no path."""
    scheme, colon, _ = text.partition(":")
    return text in DatasetCatalog.list() or bool(colon and scheme in SCHEMES)


def ensure_registered(names: Iterable[str]) -> None:
    """Register the ``names`` that are addressed by path; check that the other names are registered.

    Raises:
        UsageError: if a name is unknown, an address is malformed, or a path does not exist.
    """
    for name in names:
        if _may_be_outdated.get(name):
            for catalog in (DatasetCatalog, MetadataCatalog):
                catalog.pop(name, None)
            del _may_be_outdated[name]
        if name in DatasetCatalog.list():
            continue
        scheme, colon, address = name.partition(":")
        if not colon or scheme not in SCHEMES:
            raise UsageError(f"Data set '{name}' is not registered; {_advice(name)}")
        form, register = SCHEMES[scheme]
        parts = address.rsplit("@", form.count("@"))
        if not all(parts) or len(parts) != form.count("@") + 1:
            raise UsageError(f"Data set '{name}' is malformed; the form is {form}.")
        register(name, *map(os.path.expanduser, parts))  # which no shell does behind a colon
        _may_be_outdated[name] = False


def expire_registered() -> None:
    """Let :func:`ensure_registered` read the names addressed by path again, because their files may have changed."""
    _may_be_outdated.update(dict.fromkeys(_may_be_outdated, True))
    class_names.cache_clear()


def _advice(name: str) -> str:
    """Return advice on the unknown name of a data set, which may be a folder or a misspelt name."""
    scheme, colon, address = name.partition(":")
    if os.path.isdir(name) or is_archive(name):
        return f"did you mean images:{name}?"
    known = list(SCHEMES) if colon else DatasetCatalog.list()
    similar = difflib.get_close_matches(scheme.lower() if colon else name, known, n=1, cutoff=0.8)
    if similar:
        return f"did you mean {similar[0]}{colon}{address}?"
    forms = ", ".join(form for form, _ in SCHEMES.values())
    missing = "" if colon else "there is no such folder either: "
    return f"{missing}address one by path as {forms}, or register it with detectron2's DatasetCatalog."


def load_dicts(name: str) -> Sequence[dict[str, Any]]:
    """Load the dataset dicts of the registered data set ``name``.

    Raises:
        UsageError: if the files are missing, the loader refuses them, or there are no images.
    """
    try:
        dicts = DatasetCatalog.get(name)
    except (OSError, AssertionError, ImportError) as error:  # detectron2's loaders raise these for missing files
        raise UsageError(f"Data set '{name}' cannot be loaded ({error}){_where_to_put(error)}.") from error
    if not dicts:
        raise UsageError(f"Data set '{name}' has no images.")
    return dicts


def _where_to_put(error: Exception) -> str:
    """Return advice on a file that is missing below the folder of the built-in data sets."""
    root = os.getenv("DETECTRON2_DATASETS", "datasets")
    missing = str(getattr(error, "filename", None) or error)
    if isinstance(error, PermissionError) or not missing.startswith(os.path.join(root, "")):
        return ""
    return f": put its files into {os.path.abspath(root)}, or set DETECTRON2_DATASETS to the folder that holds them"
