"""Find the losses of reading an image as 8-bit RGB: most of the range of deep images, further channels, pages."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..io.reader import TIFF_PHOTOMETRIC, has_deep_colours, is_deep

FULL_RANGE = (0, 65535)
MIN_RANGE_SHARE = 0.25  # smallest share of the range that the values must fill, for at least 64 grey levels
MIN_NARROW = 0.5  # smallest share of the deep files with fewer values that is a problem; few may be dark images
OUTLIER_PERCENT = 0.1  # percentage of an image's pixels at either end that do not count
_SAMPLES = 277  # TIFF tag
_CHANNELS_READ = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # TIFF's photometric interpretation -> channels


@dataclass(frozen=True)
class FileValues:
    """Describe the values in an image file.

    Attributes:
        deep: whether the file has one channel of more than 8 bits, or colours of 16 bits.
        coloured: whether the file has colours.
        lowest, highest: range of the values of a deep file, without outliers.
        extra_channels: whether the file has a channel besides grey or colours, such as transparency or near infrared.
        pages: whether the file has several pages or frames.
    """

    deep: bool
    coloured: bool
    lowest: float
    highest: float
    extra_channels: bool
    pages: bool


def read_values(file: str | io.BytesIO) -> FileValues:
    """Describe the image in a path or an open binary ``file``, which has been decoded before without an error."""
    with Image.open(file) as image:
        pages, extra_channels = _has_pages(image), _has_extra_channels(image)
        deep_colours = has_deep_colours(image)
        if not (deep_colours or is_deep(image)):
            return FileValues(False, False, np.inf, -np.inf, extra_channels, pages)
        values = np.asarray(image)
    if deep_colours:  # Pillow keeps only the upper 8 bits
        values = values.astype(np.int64) * 257
    low, high = np.nanpercentile(values, (OUTLIER_PERCENT, 100 - OUTLIER_PERCENT), method="nearest")
    return FileValues(True, deep_colours, low, high, extra_channels, pages)


def _share(low: float, high: float, pixel_range: tuple[float, ...]) -> float:
    """Return the share of the range that the values from ``low`` to ``high`` fill."""
    first, last = pixel_range or FULL_RANGE
    return max(0.0, min(high, last) - max(low, first)) / (last - first)


def _limits(files: Sequence[FileValues]) -> tuple[float, float]:
    return min(file.lowest for file in files), max(file.highest for file in files)


def describe_values(files: Sequence[FileValues], pixel_range: tuple[float, ...]) -> list[str]:
    """Describe files in lines of text; return [] for images of 8 bits and three channels at most."""
    lines = []
    deep = [file for file in files if file.deep]
    if deep:
        low, high = _limits(deep)
        first, last = pixel_range or FULL_RANGE
        lines.append(
            f"  values: {low:g} to {high:g} in {len(deep)} files of more than 8 bits, "
            f"{100 * _share(low, high, pixel_range):.0f} % of the range {first:g} to {last:g}"
        )
    extra_channels, pages = sum(file.extra_channels for file in files), sum(file.pages for file in files)
    if extra_channels:
        lines.append(f"  channels: {extra_channels} files have more than grey or RGB, the others are ignored")
    if pages:
        lines.append(f"  pages: {pages} files have several pages or frames, only the first is read")
    return lines


def value_problems(files: Sequence[FileValues], pixel_range: tuple[float, ...]) -> list[str]:
    """Return a sentence for each kind of deep images, grey and coloured, of which many keep few grey levels.

    A file counts by its own range, because a single file with all values must not hide the others.
    """
    problems = []
    for kind, coloured in (("grey", False), ("coloured", True)):
        # An image of one value, such as an empty slice, tells nothing.
        deep = [file for file in files if file.deep and file.coloured == coloured and file.lowest < file.highest]
        narrow = [file for file in deep if _share(file.lowest, file.highest, pixel_range) < MIN_RANGE_SHARE]
        if not narrow or len(narrow) < MIN_NARROW * len(deep):
            continue
        low, high = _limits(narrow)
        share = _share(low, high, pixel_range)
        if share >= MIN_RANGE_SHARE:  # images of little contrast, somewhere in the range
            continue
        remedy = f'set INPUT.PIXEL_RANGE "[{low:g}, {high:g}]", in pre-training and in detectors'
        if coloured:
            remedy = "convert them to colours of 8 bits that fill the range 0 to 255"
        elif len(narrow) < len(deep):
            remedy = "convert all grey files to one range"
        problems.append(
            f"the values {low:g} to {high:g} of {len(narrow)} of {len(deep)} {kind} files of more than 8 bits become "
            f"{int(255 * share) + 1} of 256 grey levels: {remedy}"
        )
    return problems


def _has_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # decoders may raise any exception for a damaged page behind the first
        return True


def _has_extra_channels(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags.get(_SAMPLES, 1) > _CHANNELS_READ.get(tags.get(TIFF_PHOTOMETRIC), 4)
    return image.getbands()[-1] in ("A", "a", "X")
