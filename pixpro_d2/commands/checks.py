"""Check a command line without PyTorch and detectron2."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..config_files import config_path
from ..utils.archives import archive_files, is_archive
from ..utils.detectron2_check import HOW, detectron2_is_installed
from ..utils.errors import UsageError
from ..weights_files import known_weights, weights_path

ADDRESS = r"([a-z_]+):(?!//)(.+)"  # scheme and path of a data set
WORD = r"[\w\-]+"  # may be the name of a registered data set


def check_detectron2() -> None:
    """Check that detectron2 is installed.

    Raises:
        UsageError: if detectron2 is missing, with the way to install it.
    """
    if not detectron2_is_installed():
        raise UsageError(HOW)


def data_address(text: str, scheme: str = "") -> str:
    """Return the name of a data set for its path.

    Args:
        text: ``SCHEME:PATH`` or a registered name, as in DATASETS.TRAIN, or the path alone.
        scheme: scheme of a path alone; "" refuses a path without a scheme, but not the name of a data set.

    Raises:
        UsageError: if the path does not exist, or a path alone is no folder with contents.
    """
    found = re.match(ADDRESS, text)
    if re.fullmatch(WORD, text) and not Path(text).exists() and (not scheme or _resembles_registered(text)):
        return text  # the name of a registered data set, or the catalog's error names a similar one
    if found is None and not scheme:
        raise UsageError(
            f"'{text}' names no labelled data set: name one by its layout, such as voc:DIR@SPLIT, coco:JSON@IMAGE_DIR, "
            "semseg:IMAGE_DIR@LABEL_DIR or classes:DIR."
        )
    path = os.path.expanduser(text if found is None else found[2])
    text = path if found is None else text
    if (scheme if found is None else found[1]) == "images" and is_archive(path):
        archive_files(path)
        return text if found else f"images:{text}"
    parts = path.split("@")
    if not any(Path("@".join(parts[:count])).exists() for count in range(len(parts), 0, -1)):
        raise UsageError(f"There is no folder {Path(path).absolute()}: check the path of the data.")
    if found is None and not Path(text).is_dir():
        raise UsageError(f"{Path(text).absolute()} is no folder and no zip or tar file: name the folder of the images.")
    if found is None and not any(Path(text).iterdir()):
        raise UsageError(f"The folder {Path(text).absolute()} is empty: name the folder of the images.")
    return f"{scheme}:{text}" if found is None else text


def _resembles_registered(name: str) -> bool:
    """Return whether a data set is registered by ``name`` or a similar name; load detectron2, if it is installed."""
    if not detectron2_is_installed():
        return False
    from detectron2.data import DatasetCatalog

    from .. import data  # noqa: F401  it registers data sets

    return bool(difflib.get_close_matches(name, DatasetCatalog.list(), n=1, cutoff=0.85))


def check_first_word(argv: Sequence[str]) -> None:
    """Check a command line that begins with a path, or with the name of a data set.

    Raises:
        UsageError: if the path does not exist.
    """
    if not argv or argv[0].startswith("-"):
        return
    if re.match(ADDRESS, argv[0]):
        data_address(argv[0])
    elif is_archive(argv[0]):
        archive_files(os.path.expanduser(argv[0]))
    elif "." in argv[0] or "/" in argv[0]:  # other words may be the name of a registered data set
        _check_is_path(argv[0])


def _check_is_path(path: str) -> None:
    """Raise a UsageError unless a file or folder exists."""
    if not Path(path).expanduser().exists():
        raise UsageError(f"There is no file or folder {Path(path).absolute()}: check the path.")


def check_file(path: str, what: str, advice: str = "check the path") -> None:
    """Check that a file exists.

    Raises:
        UsageError: if the file is missing; the message calls it ``what`` and ends in ``advice``.
    """
    path = os.path.expanduser(path)
    if Path(path).is_dir():
        inside = next((str(file) for file in sorted(Path(path).glob("*.pth"), reverse=True)), f"a {what} in it")
        raise UsageError(f"{Path(path).absolute()} is a folder: name {inside}.")
    if not Path(path).is_file():
        raise UsageError(f"There is no {what} {Path(path).absolute()}: {advice}.")


def check_weights(name: str) -> None:
    """Check that a checkpoint exists, by its path or by the short name of weights of the package.

    Raises:
        UsageError: if it is missing.
    """
    check_file(weights_path(name), "checkpoint", f"check the path{known_weights(name)}")


def check_pairs(opts: Sequence[str]) -> None:
    """Check that words are pairs of a config key and a value.

    Raises:
        UsageError: for a word that is no key, and for a key without a value.
    """
    wrong = next((word for word in opts[::2] if not re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)*", word)), None)
    if wrong is not None and is_archive(wrong):  # a shell has expanded the braces
        raise UsageError(f"{wrong} is one archive too many: put a pattern such as 'shards/{{00..99}}.tar' in quotes.")
    if wrong is not None:
        raise UsageError(f"'{wrong}' is neither an option, listed by --help, nor a config key such as SOLVER.MAX_ITER.")
    if len(opts) % 2:
        raise UsageError(f"Options come in pairs of KEY VALUE, but '{opts[-1]}' has no value.")


def check_config_file(words: Sequence[str]) -> None:
    """Check the config that ``--config-file`` names among the words of a command line, if there is one.

    Raises:
        UsageError: if there is no such config.
    """
    for word, following in zip(words, [*words[1:], ""]):
        name = following if word == "--config-file" else word.removeprefix("--config-file=")
        if name != word and name:
            config_path(name)
