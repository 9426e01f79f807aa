"""Find the losses of reading an image as 8-bit RGB: most of the range of deep images, further channels, pages."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..io.reader import has_deep_colours, is_deep

FULL_RANGE = (0, 65535)
MIN_RANGE_SHARE = 0.25  # smallest share of the range that the values must fill, for at least 64 grey levels
OUTLIER_PERCENT = 0.1  # percentage of an image's pixels at either end that do not count
_SAMPLES, _PHOTOMETRIC = 277, 262  # TIFF tags
_CHANNELS_READ = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # TIFF's photometric interpretation -> channels


@dataclass
class StoredValues:
    """Collect statistics of the files that are passed to :meth:`add`.

    Attributes:
        deep: number of files with one channel of more than 8 bits, or with colours of 16 bits.
        lowest, highest: range of the values in the deep files, without outliers.
        extra_channels: number of files with a channel besides grey or colours, such as transparency or near infrared.
        pages: number of files with several pages or frames.
    """

    deep: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    extra_channels: int = 0
    pages: int = 0

    def add(self, file: str | io.BytesIO) -> None:
        """Add the image in a path or an open binary ``file``, which has been decoded before without an error."""
        with Image.open(file) as image:
            self.pages += _has_pages(image)
            self.extra_channels += _has_extra_channels(image)
            deep_colours = has_deep_colours(image)
            if not (deep_colours or is_deep(image)):
                return
            values = np.asarray(image)
        if deep_colours:  # Pillow keeps only the upper 8 bits
            values = values.astype(np.int64) * 257
        low, high = np.nanpercentile(values, (OUTLIER_PERCENT, 100 - OUTLIER_PERCENT), method="nearest")
        self.deep += 1
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)

    def describe(self, pixel_range: tuple[float, ...]) -> list[str]:
        """Describe the findings in lines of text; [] for images of 8 bits and three channels at most."""
        lines = []
        if self.deep:
            low, high = pixel_range or FULL_RANGE
            lines.append(
                f"  values: {self.lowest:g} to {self.highest:g} in {self.deep} files of more than 8 bits, "
                f"{100 * self.share(pixel_range):.0f} % of the range {low:g} to {high:g}"
            )
        if self.extra_channels:
            lines.append(f"  channels: {self.extra_channels} files have more than grey or RGB, the others are ignored")
        if self.pages:
            lines.append(f"  pages: {self.pages} files have several pages or frames, only the first is read")
        return lines

    def share(self, pixel_range: tuple[float, ...]) -> float:
        """Return the share of the range that the values of the deep files fill."""
        low, high = pixel_range or FULL_RANGE
        return max(0.0, min(self.highest, high) - max(self.lowest, low)) / (high - low)

    def problems(self, pixel_range: tuple[float, ...]) -> list[str]:
        """Return a sentence if deep images would keep few of their grey levels."""
        share = self.share(pixel_range) if self.deep else 1.0
        if share >= MIN_RANGE_SHARE:
            return []
        return [
            f"the values {self.lowest:g} to {self.highest:g} become {int(255 * share) + 1} of 256 grey levels: "
            f'set INPUT.PIXEL_RANGE "[{self.lowest:g}, {self.highest:g}]", in pre-training and in detectors'
        ]


def _has_pages(image: Image.Image) -> bool:
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # decoders may raise any exception for a damaged page behind the first
        return True


def _has_extra_channels(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags.get(_SAMPLES, 1) > _CHANNELS_READ.get(tags.get(_PHOTOMETRIC), 4)
    return image.getbands()[-1] in ("A", "a", "X")
