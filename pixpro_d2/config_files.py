"""Find the configs of the package: in the folder ``configs`` of a checkout, or inside an installed package."""

import difflib
import os
from pathlib import Path

from .utils.errors import UsageError

SUFFIX = ".yaml"
# A general name stands for the first of these files that fits the recipe.
GENERAL_NAMES = {
    "pixpro": ("pixpro_fpn", "pixpro_c5"),
    "pixpro_head": ("pixpro_fcos_head", "pixpro_retinanet_head"),
    "pixcontrast": ("pixcontrast_fpn", "pixcontrast_c5"),
    "slotcon": ("slotcon_fpn", "slotcon_c5"),
}


def folder_of_package(name: str) -> Path:
    """Return a folder that comes with the package: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def configs_folder() -> Path:
    """Return the folder of the configs."""
    return folder_of_package("configs")


def config_path(name: str) -> str:
    """Return the path of a config file.

    Args:
        name: a path, or the name of a config that comes with the package: ``pretrain/quickstart`` or
            ``configs/pretrain/quickstart.yaml``, in any working folder.

    Raises:
        UsageError: if there is no such file.
    """
    if Path(name).is_file():
        return name
    folder = configs_folder()
    key = _key(name)
    if (folder / key).is_file():
        return str(folder / key)
    raise UsageError(missing_file(name))


def base_path(base: str, file: str) -> str:
    """Return an entry of ``_BASE_`` in a config file, or the path of a config of the package.

    Args:
        base: a path relative to the folder of ``file``, an absolute path, or the name of a config of the package.
        file: path of the config file that names ``base``. A file with the name ``base`` beside it comes first.
    """
    of_package = configs_folder() / _key(base)
    if os.path.exists(os.path.join(os.path.dirname(file), os.path.expanduser(base))) or not of_package.is_file():
        return base
    return str(of_package)


def config_names() -> list[str]:
    """Return the names of all configs of the package, such as ``pretrain/quickstart.yaml``."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"*{SUFFIX}"))


def starts_folder() -> Path:
    """Return the folder of the starts that ``--init`` takes."""
    return configs_folder() / "init"


def start_names() -> list[str]:
    """Return all names that ``--init`` takes."""
    return sorted([*(path.stem for path in starts_folder().glob(f"*{SUFFIX}")), *GENERAL_NAMES])


def recipe_and_start(name: str) -> tuple[str, str] | None:
    """Return the recipe and the start in the name of a file: ``fcn_R_50_30k_random.yaml`` has both.

    Former versions had a file for each pair. Return None for another name, or if there is no such recipe.
    """
    path = Path(name)
    for start in sorted(start_names(), key=len, reverse=True):
        recipe = path.with_name(f"{path.stem.removesuffix(f'_{start}')}{path.suffix}")
        if recipe.name != path.name and (recipe.is_file() or (configs_folder() / _key(str(recipe))).is_file()):
            return str(recipe), start
    return None


def missing_file(name: str) -> str:
    """Return a sentence about a missing config, with the command or the name to use instead."""
    if whole := recipe_and_start(name):
        recipe, start = whole
        return f"There is no config file {name} any more: write `--config-file {recipe} --init {start}` instead."
    beside = map(str, Path(name).parent.glob(f"*{SUFFIX}"))
    files = [known for known in (*config_names(), *beside) if not known.startswith("init/")]  # those are for --init
    recipes = [known for known in files if "/" not in name and "/Base-" not in known and "/ablation/" not in known]
    similar = {_comparable(Path(recipe).name): recipe for recipe in recipes}
    similar |= {_comparable(known): known for known in files}
    found = difflib.get_close_matches(_comparable(_key(name)), similar, n=1)
    hint = f"did you mean {similar[found[0]]}?" if found else f"the configs of the package are in {configs_folder()}."
    return f"There is no config file {Path(name).absolute()}: {hint}"


def _comparable(name: str) -> str:
    """Return the name of a config in the form for comparisons: ``coco/Base-FCN-R50`` becomes ``cocofcnr50``."""
    folder, _, file = name.removesuffix(SUFFIX).rpartition("/")
    return "".join(filter(str.isalnum, folder.lower() + file.lower().removeprefix("base-")))


def _key(name: str) -> str:
    """Return the path of a config below the folder of the configs."""
    name = name.removeprefix("configs/")
    return name if name.endswith(SUFFIX) else name + SUFFIX
