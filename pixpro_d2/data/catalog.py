"""Data sets addressed by path, wherever detectron2 takes the name of a data set.

``images:DIR`` any folder tree of images; ``voc:DIR@SPLIT`` Pascal VOC layout; ``coco:JSON@IMAGE_DIR`` COCO
annotations. Several names in DATASETS.TRAIN are joined by detectron2, as in VOC 07+12.
"""

from detectron2.data import DatasetCatalog

from ..errors import UsageError
from .datasets.coco import register_coco
from .datasets.images import register_images
from .datasets.voc import register_voc

# scheme -> (form of the name, function that registers `name` for what follows the colon)
SCHEMES = {
    "images": ("images:DIR", register_images),
    "voc": ("voc:DIR@SPLIT", register_voc),
    "coco": ("coco:JSON@IMAGE_DIR", register_coco),
}


def ensure_registered(names):
    """Register those of ``names`` that are addressed by path; check that the others are registered.

    Raises:
        UsageError: for an unknown name, a malformed address, or a path that does not exist.
    """
    for name in names:
        if name in DatasetCatalog.list():
            continue
        scheme, colon, address = name.partition(":")
        if not colon or scheme not in SCHEMES:
            forms = ", ".join(form for form, _ in SCHEMES.values())
            raise UsageError(
                f"Data set '{name}' is not registered; address one by path as {forms}, or register it with "
                "detectron2's DatasetCatalog."
            )
        form, register = SCHEMES[scheme]
        parts = address.rsplit("@", form.count("@"))
        if not all(parts) or len(parts) != form.count("@") + 1:
            raise UsageError(f"Data set '{name}' is malformed; the form is {form}.")
        register(name, *parts)
