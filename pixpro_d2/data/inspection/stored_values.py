"""Find the losses of reading an image as 8-bit RGB: most of the range of deep images, further channels, pages."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from detectron2.utils import comm
from PIL import Image

from ...utils.retry import Patience
from ...utils.sampling import evenly_spread
from ..datasets.video import list_frames
from ..io.reader import TIFF_PHOTOMETRIC, TIFF_SAMPLES, has_deep_colours, header_source, is_deep

logger = logging.getLogger(__name__)

FULL_RANGE = (0, 65535)
MIN_RANGE_SHARE = 0.25  # smallest share of the range that the values must fill, for at least 64 grey levels
MIN_NARROW = 0.5  # smallest share of the deep files with fewer values that is a problem; few may be dark images
OUTLIER_PERCENT = 0.1  # percentage of an image's pixels at either end that do not count
MAX_OUTSIDE = 0.9  # largest share of pixels outside the range that is no problem: a window of CT excludes most of them
MAX_PIXELS = 2**20  # number of pixels, evenly spaced, whose values are looked at
FIRST_IMAGES = 8  # number of images that are looked at when a run starts
_CHANNELS_READ = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # TIFF's photometric interpretation -> channels


@dataclass(frozen=True)
class FileValues:
    """Describe the values in an image file.

    Attributes:
        deep: whether the file has one channel of more than 8 bits, or colours of 16 bits.
        coloured: whether the file has colours.
        lowest, highest: range of the values of a deep file, without outliers and ``nodata``.
        extra_channels: whether the file has a channel besides grey or colours, such as transparency or near infrared.
        pages: whether the file has several pages or frames.
        nodata: lowest or highest value, if many pixels have it and all others are far away, as -32768 for no data.
        outside: share of the other pixels outside INPUT.PIXEL_RANGE.
    """

    deep: bool
    coloured: bool
    lowest: float
    highest: float
    extra_channels: bool
    pages: bool
    nodata: float | None = None
    outside: float = 0.0


def read_values(file: str | io.BytesIO, pixel_range: tuple[float, ...]) -> FileValues:
    """Describe the image in a path or an open binary ``file`` that :func:`pixpro_d2.data.io.reader.read_image` reads.

    Args:
        file: the image.
        pixel_range: INPUT.PIXEL_RANGE.
    """
    with Image.open(file) as image:
        pages, extra_channels = _has_pages(image), _has_extra_channels(image)
        deep_colours = has_deep_colours(image)
        if not (deep_colours or is_deep(image)):
            return FileValues(False, False, np.inf, -np.inf, extra_channels, pages)
        pixels = np.asarray(image)
    pixels = pixels.reshape(-1, *pixels.shape[2:])
    values = pixels[:: -(-len(pixels) // MAX_PIXELS)].astype(np.float64)
    values = values[np.isfinite(values)] * (257 if deep_colours else 1)  # Pillow keeps only the upper 8 bits of colours
    if not values.size:
        return FileValues(True, deep_colours, np.inf, -np.inf, extra_channels, pages)
    nodata = _nodata(values)
    values = values[values != nodata]
    low, high = _without_outliers(values)
    first, last = pixel_range or (-np.inf, np.inf)
    outside = np.mean((values < first) | (values > last))
    return FileValues(True, deep_colours, low, high, extra_channels, pages, nodata, float(outside))


def _without_outliers(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (OUTLIER_PERCENT, 100 - OUTLIER_PERCENT), method="nearest")
    return float(low), float(high)


def _nodata(values: np.ndarray) -> float | None:
    """Return the lowest or highest value if it is no outlier, and farther from all others than they are apart."""
    for extreme in (values.min(), values.max()):
        others = values[values != extreme]
        if others.size and values.size - others.size > OUTLIER_PERCENT / 100 * values.size:
            low, high = _without_outliers(others)
            if 0 < high - low < max(low - extreme, extreme - high):
                return float(extreme)
    return None


def _share(low: float, high: float, pixel_range: tuple[float, ...]) -> float:
    """Return the share of the range that the values from ``low`` to ``high`` fill."""
    first, last = pixel_range or FULL_RANGE
    return max(0.0, min(high, last) - max(low, first)) / (last - first)


def _limits(files: Sequence[FileValues]) -> tuple[float, float]:
    return min(file.lowest for file in files), max(file.highest for file in files)


def _in_words(files: Sequence[FileValues]) -> str:
    low, high = _limits(files)
    nodata = sorted({file.nodata for file in files if file.nodata is not None})
    return f"{low:g} to {high:g}" + (f" (without {', '.join(f'{x:g}' for x in nodata)}, no data)" if nodata else "")


def describe_values(files: Sequence[FileValues], pixel_range: tuple[float, ...]) -> list[str]:
    """Describe files in lines of text; return [] for images of 8 bits and three channels at most."""
    lines = []
    deep = [file for file in files if file.deep]
    if deep:
        low, high = _limits(deep)
        first, last = pixel_range or FULL_RANGE
        lines.append(
            f"  values: {_in_words(deep)} in {len(deep)} files of more than 8 bits, "
            f"{100 * _share(low, high, pixel_range):.0f} % of the range {first:g} to {last:g}"
        )
        if pixel_range:
            outside = 100 * sum(file.outside for file in deep) / len(deep)
            lines[-1] += f"; {outside:.1f} % of the pixels are outside and become black or white"
    extra_channels, pages = sum(file.extra_channels for file in files), sum(file.pages for file in files)
    if extra_channels:
        lines.append(f"  channels: {extra_channels} files have more than grey or RGB, the others are ignored")
    if pages:
        lines.append(f"  pages: {pages} files have several pages or frames, only the first is read")
    return lines


def value_problems(files: Sequence[FileValues], pixel_range: tuple[float, ...]) -> list[str]:
    """Return a sentence for each kind of deep images, grey and coloured, of which many lose most of their values.

    Their values become few grey levels, or only black and white outside ``pixel_range``. A file counts by its own
    range, because a single file with all values must not hide the others.
    """
    problems = []
    for kind, coloured in (("grey", False), ("coloured", True)):
        # An image of one value, such as an empty slice, tells nothing.
        deep = [file for file in files if file.deep and file.coloured == coloured and file.lowest < file.highest]
        clipped = sum(file.outside > MAX_OUTSIDE for file in deep)
        if clipped and clipped >= MIN_NARROW * len(deep):
            problems.append(
                f"more than {100 * MAX_OUTSIDE:g} % of the pixels of {clipped} of {len(deep)} {kind} files of more "
                f"than 8 bits are outside the range {pixel_range[0]:g} to {pixel_range[1]:g} and become black or "
                "white: check INPUT.PIXEL_RANGE"
            )
            continue
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
            f"the values {_in_words(narrow)} of {len(narrow)} of {len(deep)} {kind} files of more than 8 bits become "
            f"{int(255 * share) + 1} of 256 grey levels: {remedy}"
        )
    return problems


def warn_of_lost_values(
    images: Sequence[dict[str, Any]], pixel_range: tuple[float, ...], retry_seconds: float = 0.0
) -> None:
    """Log, in the main process, the :func:`value_problems` of FIRST_IMAGES evenly spaced images or videos.

    Args:
        images: dataset dicts; of a video, the first frame counts.
        pixel_range: INPUT.PIXEL_RANGE.
        retry_seconds: how long to retry a file, see :class:`pixpro_d2.utils.retry.Patience`.
    """
    if not comm.is_main_process():
        return
    files, patience = [], Patience(retry_seconds)
    for image in evenly_spread(images, min(FIRST_IMAGES, len(images))):
        try:
            files.append(patience.read(partial(_read_record, image, pixel_range)))
        except Exception:  # decoders may raise any exception; the loader skips and counts unreadable images
            continue
    for problem in value_problems(files, pixel_range):
        logger.warning(f"In {len(files)} images, {problem}.")


def _read_record(record: dict[str, Any], pixel_range: tuple[float, ...]) -> FileValues:
    path = record["file_name"]
    return read_values(header_source(list_frames(path)[0] if "num_frames" in record else path), pixel_range)


def _has_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # decoders may raise any exception for a damaged page behind the first
        return True


def _has_extra_channels(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags.get(TIFF_SAMPLES, 1) > _CHANNELS_READ.get(tags.get(TIFF_PHOTOMETRIC), 4)
    return image.getbands()[-1] in ("A", "a", "X")
