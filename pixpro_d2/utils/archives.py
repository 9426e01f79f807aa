"""Name zip and tar files, sets of such files, and their members."""

import os
import re

from .errors import UsageError

ENDINGS = (".zip", ".tar")
COMPRESSED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_MEMBER = re.compile(r"(.+?\.(?:zip|tar))@/(.+)", re.IGNORECASE | re.DOTALL)


def is_archive(path: str) -> bool:
    """Return whether ``path``, which may have braces, names zip or tar files by its ending and is no folder."""
    endings = ENDINGS + COMPRESSED_ENDINGS
    return not os.path.isdir(path) and all(name.lower().endswith(endings) for name in expand_braces(path))


def archive_files(pattern: str) -> list[str]:
    """Return the existing zip and tar files that a path names, in the order of :func:`expand_braces`.

    Raises:
        UsageError: if a file is missing, or if the name says that a tar file is compressed.
    """
    paths = [pattern] if os.path.isfile(pattern) else expand_braces(pattern)
    compressed = [path for path in paths if path.lower().endswith(COMPRESSED_ENDINGS)]
    if compressed:
        raise compressed_tar(compressed[0])
    missing = [path for path in paths if not os.path.isfile(path)]
    if len(missing) == len(paths):
        raise UsageError(f"There is no file {os.path.abspath(pattern)}: check the path of the data.")
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(paths)} files of {pattern} are missing, the first is "
            f"{os.path.abspath(missing[0])}: restore them, or change the pattern."
        )
    return paths


def compressed_tar(path: str) -> UsageError:
    """Return the error for a compressed tar file."""
    return UsageError(
        f"{path} is a compressed tar file, out of which single images cannot be read: decompress it, for example with "
        "gunzip, and name the .tar file."
    )


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in order, as a shell expands them.

    ``{008..010}`` stands for the numbers 008, 009 and 010, and ``{a,b}`` for a and b. Other braces are characters.
    """
    found = re.search(r"\{([^{}]+)\}", pattern)
    if found is None:
        return [pattern]
    words = _alternatives(found[1])
    head, rests = pattern[: found.start()], expand_braces(pattern[found.end() :])
    return [head + word + rest for word in words or [found[0]] for rest in rests]


def _alternatives(content: str) -> list[str]:
    """Return what the content of braces stands for; an empty list if the braces are characters."""
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", content)
    if ends is None:
        return content.split(",") if "," in content else []
    is_padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if is_padded else 0
    return [str(number).zfill(width) for number in range(int(ends[1]), int(ends[2]) + 1)]


def folder_of(pattern: str) -> str:
    """Return the folder of a path; of a pattern, the deepest folder that holds all its files."""
    return os.path.dirname(pattern[: pattern.find("{")] if "{" in pattern else pattern)


def title_of(pattern: str) -> str:
    """Return a short name of archives: the name of the file without its ending, or of the folder of a pattern."""
    if "{" in pattern:
        return os.path.basename(os.path.abspath(folder_of(pattern)))
    return os.path.splitext(os.path.basename(pattern))[0]


def join_member(archive: str, member: str) -> str:
    """Return the file name of a member of an archive."""
    return f"{archive}@/{member}"


def split_member(file_name: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Split ``ARCHIVE@/MEMBER`` into the path of the archive and its member; return None for any other file name."""
    file_name = os.fspath(file_name)
    found = _MEMBER.fullmatch(file_name) if "@/" in file_name else None
    return (found[1], found[2]) if found else None
