"""The pictures that a run has drawn of itself, ready to be put into a page."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BUDGET = 24_000_000  # bytes of pictures in a page; base64 makes a third more of them
WIDTH = 1000  # of a smaller copy, pixels

_NAME = re.compile(r"(.+)_(\d{7,})\.png")


@dataclass(frozen=True)
class Picture:
    """One picture of a run: what it shows, and when it was drawn."""

    name: str
    iteration: int
    path: Path


def find_pictures(folder):
    """Pictures NAME_0000199.png in a folder, by name and iteration; none without the folder."""
    files = [(path, _NAME.fullmatch(path.name)) for path in folder.glob("*.png")]
    pictures = [Picture(match[1], int(match[2]), path) for path, match in files if match]
    return sorted(pictures, key=lambda picture: (picture.name, picture.iteration))


def embed(pictures, budget=BUDGET):
    """Pictures as data addresses.

    Args:
        pictures (list[Picture]):
        budget (int): bytes; pictures that are larger together become JPEG copies of at most WIDTH pixels. If there
            were too many of these, each as large as the largest of its name, some iterations are kept, evenly spaced.

    Returns:
        tuple[list[tuple], str]: (Picture, address, (width, height)) of each one that is kept, and a sentence about
        what was changed, "" if nothing was. Files that are no pictures are left out.
    """
    if sum(map(_file_size, pictures)) <= budget:
        return list(_addresses(pictures, _as_they_are)), ""
    note = f"Pictures are JPEG copies, at most {WIDTH} pixels wide, to keep this page small"
    groups = by_name(pictures).values()
    size = sum(len(group) * _copy_size(group) for group in groups)
    chosen = pictures
    if size > budget:
        chosen = [picture for group in groups for picture in evenly(group, int(len(group) * budget / size))]
    copies = list(_addresses(chosen, _small_copy))
    if len(chosen) < len(pictures):
        note += f"; {len(copies)} of {len(pictures)} are shown"
    return copies, note + "."


def _file_size(picture):
    return picture.path.stat().st_size


def _copy_size(group):
    """Bytes of the copy of the largest of some pictures that is one; 0 if none is."""
    copies = _addresses(sorted(group, key=_file_size, reverse=True), _small_copy)
    return next((len(address) * 3 // 4 for _, address, _ in copies), 0)


def by_name(pictures):
    """dict of name to the pictures of each of their folders under that name, in their order."""
    groups = {}
    for picture in pictures:
        groups.setdefault((picture.path.parent, picture.name), []).append(picture)
    return groups


def evenly(items, count):
    """``count`` of ``items``, but at least two if there are, evenly spaced from the first to the last."""
    count = max(2, count)
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _addresses(pictures, encode):
    for picture in pictures:
        try:
            with Image.open(picture.path) as image:
                kind, data = encode(picture.path, image)
                size = image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # how Pillow says it is no picture
            continue
        yield picture, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", size


def _as_they_are(path, image):
    image.verify()
    return "png", path.read_bytes()


def _small_copy(path, image):
    small = image.convert("RGB")
    small.thumbnail((WIDTH, 100 * WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, subsampling=0)  # thin coloured lines need all of their colour
    return "jpeg", buffer.getvalue()
