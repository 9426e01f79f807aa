"""The start of a run, ``--init NAME``: weights and their input, merged between a recipe and the KEY VALUE pairs."""

import difflib
from collections.abc import Callable
from pathlib import Path

from detectron2.config import CfgNode

from .utils.errors import UsageError

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "init"
KEYS = ("MODEL.WEIGHTS", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1", "INPUT.FORMAT")
# A general name stands for the first of these files that fits the recipe.
GENERAL_NAMES = {
    "pixpro": ("pixpro_fpn", "pixpro_c5"),
    "pixpro_head": ("pixpro_fcos_head", "pixpro_retinanet_head"),
    "pixcontrast": ("pixcontrast_fpn", "pixcontrast_c5"),
}
# End of a file's name -> what its checkpoint holds beside the backbone, and whether a recipe has that part.
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
    cfg.merge_from_file(str(FOLDER / f"{_fitting_file(cfg, name)}.yaml"), allow_unsafe=False)
    cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR.rstrip('/')}_{name}"


def names() -> list[str]:
    """Return all names that ``--init`` takes."""
    return sorted([*(path.stem for path in FOLDER.glob("*.yaml")), *GENERAL_NAMES])


def _fitting_file(cfg, name):
    """Return the file of configs/init, without ``.yaml``, that ``name`` stands for in a recipe."""
    if not FOLDER.is_dir():
        raise UsageError(f"--init reads {FOLDER}, which does not exist: use the package out of its checkout.")
    choices = [known for known in names() if _fitting(cfg, known)]
    if name not in names():
        raise UsageError(f"--init knows no start '{name}': choose from {', '.join(choices)}.")
    files = _fitting(cfg, name)
    if not files:
        parts = " or ".join(_missing_part(cfg, file) for file in _files(name))
        raise UsageError(f"--init {name} needs {parts}: choose from {', '.join(choices)}.")
    return files[0]


def _files(name):
    return GENERAL_NAMES.get(name, (name,))


def _fitting(cfg, name):
    return [file for file in _files(name) if not _missing_part(cfg, file)]


def _missing_part(cfg, file):
    """Return what the checkpoint of a start holds and a recipe lacks; "" if the start fits."""
    return next((part for end, (part, has) in PARTS.items() if file.endswith(end) and not has(cfg)), "")


def recipe_and_start(path: str) -> tuple[str, str] | None:
    """Return the recipe and the start that make up the name of a file: ``fcn_R_50_30k_random.yaml`` has both.

    Such files were there before ``--init``. None for another name, and if there is no such recipe.
    """
    file = Path(path)
    for name in sorted(names(), key=len, reverse=True):
        recipe = file.with_name(f"{file.stem.removesuffix(f'_{name}')}{file.suffix}")
        if recipe.name != file.name and recipe.is_file():
            return str(recipe), name
    return None


def missing_file(path: str) -> str:
    """Return a sentence about a config file that does not exist, with the command or the name that takes its place."""
    whole = recipe_and_start(path)
    if whole:
        recipe, name = whole
        return f"There is no config file {path} any more: write `--config-file {recipe} --init {name}` instead."
    similar = {_plain(file.stem): file for file in Path(path).parent.glob("*.yaml")}
    found = difflib.get_close_matches(_plain(Path(path).stem), similar, n=1)
    hint = f": did you mean {similar[found[0]]}?" if found else "."
    return f"There is no config file {Path(path).absolute()}{hint}"


def _plain(stem):
    """Return the name of a file as it is compared: ``Base-FCN-R50-30k`` is ``fcn_R_50_30k``."""
    return "".join(filter(str.isalnum, stem.lower())).removeprefix("base")
