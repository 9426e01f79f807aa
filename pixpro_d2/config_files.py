"""The configs that come with the package: the folder ``configs`` of a checkout, or inside an installed package."""

import difflib
from pathlib import Path

from .errors import UsageError

SUFFIX = ".yaml"


def configs_folder() -> Path:
    """Return the folder of the configs, which a wheel has inside the package and a checkout beside the package."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


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
    similar = difflib.get_close_matches(key, config_names(), n=1)
    hint = f"did you mean {similar[0]}?" if similar else f"the configs of the package are in {folder}."
    raise UsageError(f"There is no config file {Path(name).absolute()}: {hint}")


def config_names() -> list[str]:
    """Return the names of all configs of the package, such as ``pretrain/quickstart.yaml``."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"*{SUFFIX}"))


def _key(name):
    name = name.removeprefix("configs/")
    return name if name.endswith(SUFFIX) else name + SUFFIX
