"""Reading one image, from a folder or out of a zip archive, as 8-bit RGB."""

import contextlib
import functools
import io
import os
import warnings
import zipfile

import numpy as np
from PIL import EpsImagePlugin, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ...utils.errors import UsageError

ZIP_SEPARATOR = ".zip@/"
JPEG_SHRINKS = (8, 4, 2, 1)  # how many times smaller a JPEG file can be decoded
_ORIENTATION = 0x0112  # EXIF tag
_TURNED = (5, 6, 7, 8)  # its values that swap width and height


class UnreadableImage(Exception):
    """A file that does not give a usable image; the message names the file and the reason."""


def restrict_pillow(max_pixels):
    """Have Pillow refuse images of more than ``max_pixels`` pixels by their headers, and start no program.

    It holds for all that opens images in this process and its workers, detectron2 included. Pillow's own limit is
    replaced. It would have Ghostscript run what an EPS file says, whatever the name of the file.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels / 2  # it warns above this number, and refuses above twice the number
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    EpsImagePlugin.gs_binary = False  # as if there were none


def zip_member(archive, member):
    """File name of ``member`` in the zip file ``archive``, as :func:`read_bytes` takes it."""
    return f"{archive}@/{member}"


@functools.lru_cache(maxsize=8)
def _open_zip(path, process):
    """Archive handle; ``process`` keys the cache, because a file position must not be shared by forked workers."""
    return zipfile.ZipFile(path)


def read_bytes(file_name):
    """Content of a file; ``archive.zip@/member`` names a member of a zip file."""
    if ZIP_SEPARATOR in file_name:
        archive, member = file_name.split(ZIP_SEPARATOR, 1)
        try:
            return _open_zip(archive + ".zip", os.getpid()).read(member)
        except OSError:  # a handle does not outlive the mount that it was opened on
            _open_zip.cache_clear()
            raise
    with open(file_name, "rb") as file:
        return file.read()


def header_source(file_name):
    """What Pillow reads the header of an image from: the path, or the content of a member of a zip file."""
    return io.BytesIO(read_bytes(file_name)) if ZIP_SEPARATOR in file_name else file_name


class EncodedImage:
    """An image file in memory, as 8-bit RGB, upright by its EXIF orientation.

    Its ``size`` is (width, height) in pixels. Of a JPEG file only the header is looked at before :meth:`decode`.
    Greyscale, palette and CMYK images are converted; 16-bit ones are scaled to 8 bits (PIL alone would clip).
    """

    def __init__(self, file_name, pixel_range=()):
        """
        Args:
            file_name (str): as :func:`read_bytes` takes it.
            pixel_range (tuple): the values that become 0 and 255, INPUT.PIXEL_RANGE, in images of one channel with
                more than 8 bits; () for 0 and 65535. Images of 8 bits stay as they are.

        Raises:
            UnreadableImage: for a missing or broken file, an unknown format, more pixels than
                :func:`restrict_pillow` allows, or an image with a side below 2 pixels, in which no two pixels can
                be told apart. Damage in a JPEG's pixels is found by :meth:`decode`.
        """
        self.file_name = file_name
        self._pixel_range = pixel_range
        self._decoded = None
        with self._naming():
            self._content = read_bytes(file_name)
            image = Image.open(io.BytesIO(self._content))
            if isinstance(image, JpegImageFile):
                self.size = upright_size(image)
            else:  # nothing to gain, and a header of TIFF or PNG need not tell the orientation
                self.size = self.decode()[0].size
        if min(self.size) < 2:
            raise UnreadableImage(f"{file_name}: {self.size[0]} x {self.size[1]} pixels; both sides need at least 2")

    def decode(self, max_shrink=1):
        """Decode the pixels, unless a former call did.

        Args:
            max_shrink (int): how many times smaller than ``size`` the result may be, 1 or more. A JPEG file is decoded
                at 1/2, 1/4 or 1/8 in a fraction of the time.

        Returns:
            tuple[PIL.Image.Image, int]: image of mode RGB, and how many times smaller it is; its sides are rounded up.

        Raises:
            UnreadableImage: for a truncated or broken file.
        """
        if self._decoded is None or self._decoded[1] > max_shrink:
            with self._naming():
                self._decoded = self._decode(max_shrink)
        return self._decoded

    def _decode(self, max_shrink):
        image = Image.open(io.BytesIO(self._content))
        shrink = 1
        if isinstance(image, JpegImageFile):
            shrink = next(shrink for shrink in JPEG_SHRINKS if shrink <= max_shrink)
            # Turned over, a side that was rounded up would begin, not end, with a part of a pixel.
            if _orientation(image) != 1 and any(side % shrink for side in image.size):
                shrink = 1
            image.draft(None, (image.width // shrink, image.height // shrink))
        if self._pixel_range and has_deep_colours(image):
            raise ValueError("INPUT.PIXEL_RANGE is for grey images, but its colours have 16 bits: convert them to 8")
        image.load()
        if _orientation(image) != 1:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image, self._pixel_range), shrink

    @contextlib.contextmanager
    def _naming(self):
        """Turn whatever is raised into an UnreadableImage that names the file."""
        try:
            yield
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:  # its own message names a buffer in memory
            raise UnreadableImage(f"{self.file_name}: not an image in a format that Pillow knows") from error
        except Image.DecompressionBombError as error:
            reason = f"more pixels than DATALOADER.MAX_IMAGE_PIXELS allows ({error})"
            raise UnreadableImage(f"{self.file_name}: {reason}") from error
        except Exception as error:  # decoders raise almost anything on damaged bytes
            raise UnreadableImage(f"{self.file_name}: {type(error).__name__}: {error}") from error


def read_image(file_name, pixel_range=()):
    """The whole image of a file at its full size, PIL.Image.Image of mode RGB; see :class:`EncodedImage`."""
    return EncodedImage(file_name, pixel_range).decode()[0]


def required_image(file_name, pixel_range=()):
    """Read an image as :func:`read_image` for a task that does not skip images: raise a UsageError if it cannot."""
    try:
        return read_image(file_name, pixel_range)
    except UnreadableImage as error:
        raise UsageError(f"{error}: restore the file, or take it out of the data set.") from error


def is_deep(image):
    """Return whether an opened PIL image has one channel of more than 8 bits: integers (I) or floats (F)."""
    return image.mode[0] in "IF"


def has_deep_colours(image):
    """Return whether an opened PIL image, not loaded yet, has colours of 16 bits; Pillow gives their upper 8 bits."""
    return not is_deep(image) and any(";16" in str(tile[3]) for tile in image.tile)


def upright_size(image):
    """(width, height) of an opened PIL image once it is upright by its EXIF orientation; no pixel is decoded."""
    return image.size[::-1] if _orientation(image) in _TURNED else image.size


def _orientation(image):
    return image.getexif().get(_ORIENTATION, 1)


def _to_rgb(image, pixel_range):
    if is_deep(image):
        image = Image.fromarray(_to_8_bits(np.asarray(image), pixel_range))
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(values, pixel_range):
    if pixel_range:
        low, high = pixel_range
        scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) * 255 / (high - low)
        return scaled.clip(0, 255).astype(np.uint8)
    if values.dtype.kind == "f":
        raise ValueError("floating-point pixels have no defined range: set INPUT.PIXEL_RANGE")
    if values.dtype != np.uint16 and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"its values, {values.min()} to {values.max()}, are not of 16 bits: set INPUT.PIXEL_RANGE")
    return (values // 257).astype(np.uint8)
