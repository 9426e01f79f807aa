"""Merge the start of a run (``--init NAME``: weights and their input) between a recipe and the KEY VALUE pairs."""

from collections.abc import Callable

from detectron2.config import CfgNode

from .config_files import GENERAL_NAMES, start_names, starts_folder
from .utils.errors import UsageError

KEYS = ("MODEL.WEIGHTS", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1", "INPUT.FORMAT")
# End of a file's name -> part that its checkpoint holds beside the backbone, and whether a recipe has this part.
PARTS: dict[str, tuple[str, Callable[[CfgNode], bool]]] = {
    "_fpn": ("an FPN", lambda cfg: "fpn" in cfg.MODEL.BACKBONE.NAME),
    "_fcos_head": ("the head of FCOS", lambda cfg: cfg.MODEL.META_ARCHITECTURE == "FCOSDetector"),
    "_retinanet_head": ("the head of RetinaNet", lambda cfg: cfg.MODEL.META_ARCHITECTURE == "RetinaNet"),
}


def merge_start(cfg: CfgNode, name: str) -> None:
    """Merge the start ``name`` into the values of a recipe, in place, and append the name to OUTPUT_DIR.

    Args:
        cfg: the values of the recipe.
        name: a file of configs/init without ``.yaml``, or one of ``GENERAL_NAMES``.

    Raises:
        UsageError: for an unknown name, and for a start with weights of a part that the recipe does not have.
    """
    cfg.merge_from_file(str(starts_folder() / f"{_fitting_file(cfg, name)}.yaml"), allow_unsafe=False)
    cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR.rstrip('/')}_{name}"


def _fitting_file(cfg: CfgNode, name: str) -> str:
    """Return the file of configs/init, without ``.yaml``, for the start ``name`` of a recipe.

    Raises:
        UsageError: if no file fits.
    """
    choices = [known for known in start_names() if _fitting(cfg, known)]
    if name not in start_names():
        raise UsageError(f"--init knows no start '{name}': choose from {', '.join(choices)}.")
    files = _fitting(cfg, name)
    if not files:
        parts = " or ".join(_missing_part(cfg, file) for file in _files(name))
        raise UsageError(f"--init {name} needs {parts}: choose from {', '.join(choices)}.")
    return files[0]


def _files(name: str) -> tuple[str, ...]:
    """Return the files that a name may stand for."""
    return GENERAL_NAMES.get(name, (name,))


def _fitting(cfg: CfgNode, name: str) -> list[str]:
    """Return the files that a name may stand for and that fit the recipe."""
    return [file for file in _files(name) if not _missing_part(cfg, file)]


def _missing_part(cfg: CfgNode, file: str) -> str:
    """Return the part that the checkpoint of a start holds and the recipe lacks; "" if the start fits."""
    return next((part for end, (part, has) in PARTS.items() if file.endswith(end) and not has(cfg)), "")
