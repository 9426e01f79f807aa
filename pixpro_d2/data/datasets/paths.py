"""Checks of the folders and files that a data set's name addresses, and lists of words in text files."""

import os
from collections.abc import Callable, Iterable

from ...utils.errors import UsageError


def check_exists(name, path, kind="folder"):
    """Raise a UsageError unless ``path`` is what data set ``name`` needs: ``kind`` ends in "folder" or "file"."""
    if not (os.path.isdir if kind.endswith("folder") else os.path.isfile)(path):
        other = "folder" if os.path.isdir(path) else "file" if os.path.isfile(path) else ""
        found = f"; it is a {other}" if other else ""
        raise UsageError(f"Data set '{name}': there is no {kind} {os.path.abspath(path)}{found}.")


def check_split(name: str, path: str, splits: Iterable[str], kind: str = "file") -> None:
    """Raise a UsageError unless ``path`` exists, as :func:`check_exists`; the error lists the ``splits`` that do."""
    listed = sorted(splits)
    if listed and not (os.path.isdir if kind == "folder" else os.path.isfile)(path):
        raise UsageError(
            f"Data set '{name}': there is no {kind} {os.path.abspath(path)}; its splits are {', '.join(listed)}."
        )
    check_exists(name, path, kind)


def splits_in(folder: str, extension: str = "") -> list[str]:
    """Return the names of the split files in ``folder``, without their extension, or of its folders without one.

    Lists of one class, as VOC has them beside its splits (``cat_train.txt`` beside ``train.txt``), do not count.
    """
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        names = {
            entry.name.removesuffix(extension)
            for entry in entries
            if not is_hidden(entry.name) and (entry.name.endswith(extension) if extension else entry.is_dir())
        }
    return sorted(name for name in names if name.rpartition("_")[2] not in names - {name})


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, as ``._photo.jpg``, which macOS writes beside ``photo.jpg``."""
    return name.startswith(".")


def split_where(exists, head, tail):
    """Where to cut ``head@tail``, as either path may hold an '@' of its own.

    Args:
        exists (Callable[[str], bool]): tells a path that is there, e.g. os.path.isfile.
        head, tail (str): the address, cut at its last '@'.

    Returns:
        tuple: the longest first path that ``exists`` and what follows it; ``head`` and ``tail`` if none does.
    """
    first, second = head, tail
    while "@" in first and not exists(first):
        first, _, middle = first.rpartition("@")
        second = f"{middle}@{second}"
    return (first, second) if exists(first) else (head, tail)


def read_class_names(folder):
    """Names in ``folder/classes.txt``, line i being class i counted from 0; None where there is no such file.

    Raises:
        UsageError: for an empty file, an empty line or a name that comes twice.
    """
    path = os.path.join(folder, "classes.txt")
    if not os.path.isfile(path):
        return None
    names = [line.strip() for line in _read_text(path).rstrip().split("\n")]
    wrong = [i for i, name in enumerate(names) if not name or name in names[:i]]
    if wrong:
        raise UsageError(f"{path}, line {wrong[0] + 1}: expected the name of a class that no other line has.")
    return names


def read_image_ids(path: str, exists: Callable[[str], bool]) -> list[str]:
    """Return the names of the images in an image set file, one in each line.

    A name may have spaces. Words after the name, such as the 1, 0 or -1 in VOC's files of one class, do not count: the
    name is the longest beginning of the line that ``exists``, or the whole line if there is no such image.

    Raises:
        UsageError: where there is no such file, or nothing in it.
    """
    if not os.path.isfile(path):
        raise UsageError(f"There is no file {os.path.abspath(path)}.")
    lines = [line.strip() for line in _read_text(path).split("\n") if line.strip()]
    if not lines:
        raise UsageError(f"{path} names no image.")
    return [_image_id(line, exists) for line in lines]


def _image_id(line, exists):
    name = line
    while not exists(name):
        words = name.rsplit(maxsplit=1)
        if len(words) == 1:
            return line
        name = words[0]
    return name


def _read_text(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}.") from error
