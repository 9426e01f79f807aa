"""Prepare the pictures that a run has drawn for embedding into a page."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

MAX_BYTES = 2_800_000  # bytes of pictures in a page; base64 adds a third, and a page is to have about 5 MB at most
COPY_WIDTH = 1000  # width of a smaller copy, pixels

Item = TypeVar("Item")
Embedded = tuple["Picture", str, tuple[int, int]]  # picture, address, (width, height)
Encoder = Callable[[Path, Image.Image], tuple[str, bytes]]  # returns the kind of image, and the bytes of its file

_NAME = re.compile(r"(.+)_(\d{7,})\.png")


@dataclass(frozen=True)
class Picture:
    """Describe a picture of a run: its subject, and the iteration when it was drawn."""

    name: str
    iteration: int
    path: Path


def find_pictures(folder: Path) -> list[Picture]:
    """Find the pictures NAME_0000199.png in a folder, by name and iteration; the folder may be missing."""
    files = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("*.png")]
    pictures = [Picture(match[1], int(match[2]), path) for path, match in files if match]
    return sorted(pictures, key=lambda picture: (picture.name, picture.iteration))


def embed(pictures: Sequence[Picture], budget: int = MAX_BYTES) -> tuple[list[Embedded], str]:
    """Encode pictures as data addresses.

    If the pictures exceed the budget, they become WebP copies of at most COPY_WIDTH pixels. If the copies would still
    exceed the budget, evenly spaced iterations are kept, or if there are too many names, the last picture of the first
    names. The estimate takes each copy to be as large as the largest copy of its name. Files that are no pictures are
    skipped.

    Args:
        pictures: pictures to embed, the most important names first.
        budget: bytes.

    Returns:
        The embedded pictures, and a sentence about changes, "" if nothing was changed.
    """
    if sum(map(_file_size, pictures)) <= budget:
        return list(_addresses(pictures, _as_they_are)), ""
    note = f"Pictures are smaller copies, at most {COPY_WIDTH} pixels wide, to keep this page small"
    chosen = _within(budget, [(group, _copy_size(group)) for group in by_name(pictures).values()])
    copies = list(_addresses(chosen, _small_copy))
    if len(chosen) < len(pictures):
        note += f"; {len(copies)} of {len(pictures)} are shown"
    return copies, note + "."


def _within(budget: int, groups: Sequence[tuple[list[Picture], int]]) -> list[Picture]:
    """Choose pictures of (pictures, bytes of each) of each name, so that their bytes do not exceed the budget."""
    size = sum(len(group) * each for group, each in groups)
    ends = sum(min(2, len(group)) * each for group, each in groups)
    if ends <= budget:
        share = min(1.0, (budget - ends) / max(1, size - ends))
        return [picture for group, _ in groups for picture in evenly(group, 2 + int((len(group) - 2) * share))]
    chosen = []
    for group, each in groups:
        if each <= budget:
            chosen.append(group[-1])
            budget -= each
    return chosen


def _file_size(picture: Picture) -> int:
    return picture.path.stat().st_size


def _copy_size(group: Sequence[Picture]) -> int:
    """Return the bytes of the copy of the largest readable picture; 0 if no picture is readable."""
    copies = _addresses(sorted(group, key=_file_size, reverse=True), _small_copy)
    return next((len(address) * 3 // 4 for _, address, _ in copies), 0)


def by_name(pictures: Iterable[Picture]) -> dict[tuple[Path, str], list[Picture]]:
    """Group pictures by their folder and name, and keep their order."""
    groups: dict[tuple[Path, str], list[Picture]] = {}
    for picture in pictures:
        groups.setdefault((picture.path.parent, picture.name), []).append(picture)
    return groups


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return ``count`` of ``items``, but at least two if possible, evenly spaced from the first to the last."""
    count = max(2, count)
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _addresses(pictures: Iterable[Picture], encode: Encoder) -> Iterator[Embedded]:
    for picture in pictures:
        try:
            with Image.open(picture.path) as image:
                kind, data = encode(picture.path, image)
                size = image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow's errors for unreadable files
            continue
        yield picture, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", size


def _as_they_are(path: Path, image: Image.Image) -> tuple[str, bytes]:
    image.verify()
    return "png", path.read_bytes()


def _small_copy(path: Path, image: Image.Image) -> tuple[str, bytes]:
    small = image.convert("RGB")
    small.thumbnail((COPY_WIDTH, 100 * COPY_WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=75)
    return "webp", buffer.getvalue()
