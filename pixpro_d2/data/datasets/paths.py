"""Check the folders and files in a data set's name, and read lists of words from text files."""

import os
from collections.abc import Callable, Iterable

from ...utils.errors import UsageError
from ...utils.folders import is_hidden


def check_exists(name: str, path: str, kind: str = "folder") -> None:
    """Raise a UsageError unless the folder or file ``path`` of data set ``name`` exists.

    ``kind`` names the path in the message, and ends in "folder" or "file".
    """
    if not (os.path.isdir if kind.endswith("folder") else os.path.isfile)(path):
        other = "folder" if os.path.isdir(path) else "file" if os.path.isfile(path) else ""
        found = f"; it is a {other}" if other else ""
        raise UsageError(f"Data set '{name}': there is no {kind} {os.path.abspath(path)}{found}.")


def check_split(name: str, path: str, splits: Iterable[str], kind: str = "file") -> None:
    """Raise a UsageError unless ``path`` exists, as :func:`check_exists` does; list the existing ``splits``."""
    listed = sorted(splits)
    if listed and not (os.path.isdir if kind == "folder" else os.path.isfile)(path):
        raise UsageError(
            f"Data set '{name}': there is no {kind} {os.path.abspath(path)}; its splits are {', '.join(listed)}."
        )
    if not listed and not os.path.exists(path):
        advice = f"make this {kind}" if kind == "folder" else "write the name of one image on each line, without .jpg"
        raise UsageError(f"Data set '{name}': there is no {kind} {os.path.abspath(path)}, nor another split: {advice}.")
    check_exists(name, path, kind)


def splits_in(folder: str, extension: str = "") -> list[str]:
    """Return the names of the split files in ``folder`` without ``extension``, or of its folders if it is "".

    VOC's lists of a single class (``cat_train.txt`` beside ``train.txt``) are no splits.
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


def split_where(exists: Callable[[str], bool], head: str, tail: str) -> tuple[str, str]:
    """Split ``head@tail`` into two paths, each of which may contain an '@'.

    Args:
        exists: checks whether a path exists, e.g. os.path.isfile.
        head, tail: the address, split at its last '@'.

    Returns:
        The longest first path that ``exists`` and the rest of the address; ``head`` and ``tail`` if none exists.
    """
    first, second = head, tail
    while "@" in first and not exists(first):
        first, _, middle = first.rpartition("@")
        second = f"{middle}@{second}"
    return (first, second) if exists(first) else (head, tail)


def read_class_names(folder: str) -> list[str] | None:
    """Read the names in ``folder/classes.txt``, line i for class i counted from 0; return None without this file.

    Raises:
        UsageError: if the file or a line is empty, or a name occurs twice.
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
    """Read the names of the images in an image set file, one name per line.

    A name may have spaces. Words after the name are ignored, such as 1, 0 or -1 in VOC's files of a single class. The
    name is the longest beginning of the line that ``exists``, or the whole line if there is no such image.

    Raises:
        UsageError: if the file is missing or empty, or a name has the extension of a file.
    """
    if not os.path.isfile(path):
        raise UsageError(f"There is no file {os.path.abspath(path)}.")
    lines = [line.strip() for line in _read_text(path).split("\n") if line.strip()]
    if not lines:
        raise UsageError(f"{path} names no image.")
    names = [_image_id(line, exists) for line in lines]
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension[1:].isalpha() and not exists(name) and exists(stem):
            raise UsageError(f"{path} names {name}: write {stem}, without {extension}.")
    return names


def _image_id(line: str, exists: Callable[[str], bool]) -> str:
    name = line
    while not exists(name):
        words = name.rsplit(maxsplit=1)
        if len(words) == 1:
            return line
        name = words[0]
    return name


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}.") from error
