"""Find the weights that come with the package, by their short names."""

from pathlib import Path

from .config_files import folder_of_package

SUFFIX = ".safetensors"


def weights_folder() -> Path:
    """Return the folder of the weights."""
    return folder_of_package("weights")


def weights_names() -> list[str]:
    """Return the short names of all weights of the package: their file names without ``.safetensors``."""
    return sorted(path.stem for path in weights_folder().glob(f"*{SUFFIX}"))


def weights_path(name: str) -> str:
    """Return the path of weights of the package by their short name, in any working folder.

    Return any other name as it is, also the name of an existing file.
    """
    file = weights_folder() / f"{name}{SUFFIX}"
    return str(file) if file.is_file() and not Path(name).is_file() else name


def known_weights(name: str) -> str:
    """Return the short names to choose from, as the end of a sentence on a missing file; "" if a path was meant."""
    names = weights_names()
    return f" (weights of the package: {', '.join(names)})" if names and Path(name).suffix == "" else ""
