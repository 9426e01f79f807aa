"""Read an image from a folder, an archive or an address as 8-bit RGB."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import EpsImagePlugin, Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from ...utils.archives import split_member
from ...utils.errors import UnreadableImage, UsageError
from .archives import read_member

JPEG_SHRINKS = (8, 4, 2, 1)  # divisors of the size at which a JPEG file can be decoded
_ORIENTATION = 0x0112  # EXIF tag
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257  # TIFF tags of the stored size
TIFF_PHOTOMETRIC, TIFF_SAMPLES = 262, 277  # TIFF tags
_WHITE_IS_ZERO = 0  # value of the first of these tags for images whose lowest value is white
_TIFF_BITS, _TIFF_PLANES, _TIFF_TYPE = 258, 284, 339  # TIFF tags of the stored numbers
_SEPARATE, _UNSIGNED, _SIGNED = 2, 1, 2  # values of the last two of these tags
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STRIP_PIXELS = 2**18  # number of values that are scaled at once, to need little memory
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def restrict_pillow(max_pixels: int) -> None:
    """Make Pillow refuse images with more than ``max_pixels`` pixels by their headers, and start no program.

    The restriction holds for everything that opens images in this process and its forked workers, detectron2 included.
    It replaces Pillow's own limit. Without it, Pillow would run Ghostscript on an EPS file of any name.
    """
    # Pillow warns above this number, and refuses above twice the number. Pillow accepts a float; only its types do not.
    Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    EpsImagePlugin.gs_binary = False  # treat Ghostscript as not installed


def read_bytes(file_name: str | os.PathLike[str]) -> bytes:
    """Read the content of a file.

    ``ARCHIVE@/MEMBER`` names a member of a zip or tar file. An address such as ``s3://BUCKET/FILE`` is read by the
    handlers of detectron2's PathManager.
    """
    member = split_member(file_name)
    if member:
        return read_member(*member)
    with PathManager.open(file_name, "rb") if is_address(file_name) else open(file_name, "rb") as file:
        return file.read()


def header_source(file_name: str | os.PathLike[str]) -> str | io.BytesIO:
    """Return the source of an image for Pillow: the path, or the content of a member of an archive or an address."""
    is_path = not split_member(file_name) and not is_address(file_name)
    return os.fspath(file_name) if is_path else io.BytesIO(read_bytes(file_name))


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether the file of a path or an address exists."""
    return PathManager.isfile(path) if is_address(path) else os.path.isfile(path)


def is_address(file_name: str | os.PathLike[str]) -> bool:
    """Return whether a file name is an address such as ``s3://BUCKET/FILE``."""
    return "://" in os.fspath(file_name)


class EncodedImage:
    """Hold an image file in memory, and decode it to 8-bit RGB, upright by its EXIF orientation.

    ``size`` is (width, height) in pixels; ``is_deep`` is the result of :func:`is_deep` for the file.
    Only the header of a JPEG file is read before :meth:`decode`.
    Greyscale, palette and CMYK images are converted. 16-bit images are scaled to 8 bits; PIL alone would clip them.
    TIFF files whose lowest value is white are inverted.
    """

    def __init__(self, file_name: str | os.PathLike[str], pixel_range: tuple[float, ...] = ()) -> None:
        """
        Args:
            file_name: path, member of an archive or address, see :func:`read_bytes`.
            pixel_range: the two values that become 0 and 255, INPUT.PIXEL_RANGE, in images of one channel with
                more than 8 bits; () for 0 and 65535. Images of 8 bits stay unchanged.

        Raises:
            UnreadableImage: if the file is missing, broken, of an unknown format, has more pixels than
                :func:`restrict_pillow` allows, or has a side below 2 pixels. :meth:`decode` finds damage in the
                pixels of a JPEG file.
        """
        self.file_name = file_name
        self._pixel_range = pixel_range
        self._decoded: tuple[Image.Image, int] | None = None
        with self._naming():
            self._content = read_bytes(file_name)
            image = Image.open(io.BytesIO(self._content))
            self.is_deep = is_deep(image)
            if isinstance(image, JpegImageFile):
                self.size = upright_size(image)
            else:  # the header saves no time, and in TIFF or PNG it may lack the orientation
                self.size = self.decode()[0].size
        if min(self.size) < 2:
            raise UnreadableImage(f"{file_name}: {self.size[0]} x {self.size[1]} pixels; both sides need at least 2")

    def decode(self, max_shrink: int = 1) -> tuple[Image.Image, int]:
        """Decode the pixels, unless an earlier call has decoded them.

        Args:
            max_shrink: largest divisor of ``size`` for the result, 1 or more. A JPEG file is decoded
                at 1/2, 1/4 or 1/8 in a fraction of the time.

        Returns:
            The image of mode RGB, and the divisor of its size; the sides are rounded up.

        Raises:
            UnreadableImage: if the file is truncated or broken.
        """
        if self._decoded is None or self._decoded[1] > max_shrink:
            with self._naming():
                self._decoded = self._decode(max_shrink)
        return self._decoded

    def _decode(self, max_shrink: int) -> tuple[Image.Image, int]:
        image = Image.open(io.BytesIO(self._content))
        shrink = 1
        if isinstance(image, JpegImageFile):
            shrink = next(shrink for shrink in JPEG_SHRINKS if shrink <= max_shrink)
            # A rounded-up side ends with a part of a pixel. After turning, it would start with the part.
            if _orientation(image) != 1 and any(side % shrink for side in image.size):
                shrink = 1
            image.draft(None, (image.width // shrink, image.height // shrink))
        if self._pixel_range and has_deep_colours(image):
            raise ValueError("INPUT.PIXEL_RANGE is for grey images, but its colours have 16 bits: convert them to 8")
        is_upright = _ORIENTATION in getattr(image, "tag_v2", ())  # Pillow turns a TIFF file; version 9 keeps the tag
        # Pillow inverts such images of 8 bits only.
        inverted = is_deep(image) and getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO
        if hasattr(image, "tag_v2"):
            _check_tiff(image)
        image.load()
        upright = image if is_upright or _orientation(image) == 1 else ImageOps.exif_transpose(image)
        colours = _to_rgb(upright, self._pixel_range)
        return ImageOps.invert(colours) if inverted else colours, shrink

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn any exception into an UnreadableImage that names the file."""
        try:
            yield
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:  # Pillow's message names a buffer in memory
            reason = "not an image in a format that Pillow knows"
            if self._content.startswith(_TIFF_STARTS):
                reason = "a damaged TIFF, or of a kind that Pillow cannot read (bands, floats, compression): convert it"
            raise UnreadableImage(f"{self.file_name}: {reason}") from error
        except Image.DecompressionBombError as error:
            reason = f"more pixels than DATALOADER.MAX_IMAGE_PIXELS allows ({error})"
            raise UnreadableImage(f"{self.file_name}: {reason}") from error
        except Exception as error:  # decoders may raise any exception for damaged bytes
            raise UnreadableImage(f"{self.file_name}: {type(error).__name__}: {error}") from error


def read_image(file_name: str | os.PathLike[str], pixel_range: tuple[float, ...] = ()) -> Image.Image:
    """Read the image of a file at its full size in mode RGB; see :class:`EncodedImage`."""
    return EncodedImage(file_name, pixel_range).decode()[0]


def required_image(file_name: str | os.PathLike[str], pixel_range: tuple[float, ...]) -> Image.Image:
    """Read an image by :func:`read_image` for a task that skips no image; raise a UsageError if it is unreadable."""
    try:
        return read_image(file_name, pixel_range)
    except UnreadableImage as error:
        raise UsageError(f"{error}: restore the file, or take it out of the data set.") from error


def is_deep(image: Image.Image) -> bool:
    """Return whether an opened PIL image has one channel of more than 8 bits: integers (I) or floats (F)."""
    return image.mode[0] in "IF"


def has_deep_colours(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened PIL image, not loaded yet, has 16-bit colours; Pillow keeps their upper 8 bits.

    Colours of JPEG 2000 count as 8 bits, because Pillow does not tell their bits.
    """
    return not is_deep(image) and any(_has_16_bits(tile[0], tile[3]) for tile in image.tile)


def _has_16_bits(decoder: str, arguments: object) -> bool:
    highest = arguments[1] if decoder.startswith("ppm") and isinstance(arguments, tuple) else 0  # value in a PPM file
    return ";16" in str(arguments) or highest > 255


def _check_tiff(image: ImageFile.ImageFile) -> None:
    """Raise a ValueError for an opened TIFF file, not loaded yet, whose numbers Pillow would misread."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits, kind = tags.get(_TIFF_BITS, (1,))[0], tags.get(_TIFF_TYPE, (_UNSIGNED,))[0]
    decoder = image.tile[0][0]
    if tags.get(_TIFF_PLANES) == _SEPARATE and tags.get(TIFF_SAMPLES, 1) > 1 and bits > 8 and decoder == "raw":
        raise ValueError("Pillow misreads its separate planes: save it with interleaved channels, or compressed")
    if kind == _SIGNED and bits == 8 and np.asarray(image).max() > 127:
        raise ValueError("Pillow misreads negative integers of 8 bits: save it with 16 bits")
    if kind == _SIGNED and bits == 16 and tags.prefix == b"MM" and decoder == "libtiff":
        raise ValueError("Pillow misreads compressed big-endian integers: save it little-endian, or uncompressed")
    if kind == _UNSIGNED and bits == 32 and np.asarray(image).min() < 0:
        raise ValueError("Pillow misreads integers from 2147483648 on: save it with floats")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) of an opened PIL image after its EXIF orientation is applied; decode no pixel."""
    tags = getattr(image, "tag_v2", None)  # of a TIFF file
    if tags and image.size != (tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]):
        return image.size  # Pillow from version 11 on turns the size of a TIFF file when it opens the file
    return image.size[::-1] if _orientation(image) in _TURNED else image.size


def read_size(file_name: str) -> tuple[int, int]:
    """Return (width, height) of an image in pixels, after it is turned upright by its EXIF orientation.

    Only the header is read, except for a PNG file without an orientation in its header: it may follow the pixels.

    Raises:
        UnreadableImage: if the file is missing, broken, or of an unknown format.
    """
    try:
        with Image.open(header_source(file_name)) as image:
            return upright_size(image)
    except Exception as error:  # decoders may raise any exception for damaged bytes
        raise UnreadableImage(f"{file_name}: {type(error).__name__}: {error}") from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


def _to_rgb(image: Image.Image, pixel_range: tuple[float, ...]) -> Image.Image:
    if is_deep(image):
        image = Image.fromarray(_to_8_bits(np.asarray(image), pixel_range))
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(values: np.ndarray, pixel_range: tuple[float, ...]) -> np.ndarray:
    """Scale values (height, width) to uint8, some rows at a time."""
    if not pixel_range and values.dtype.kind == "f":
        raise ValueError("floating-point pixels have no defined range: set INPUT.PIXEL_RANGE")
    if not pixel_range and values.dtype != np.uint16 and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"its values, {values.min()} to {values.max()}, are not of 16 bits: set INPUT.PIXEL_RANGE")
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // values.shape[1])
    for top in range(0, len(values), rows):
        strip = values[top : top + rows]
        if pixel_range:
            low, high = pixel_range
            numbers = np.nan_to_num(strip.astype(np.float64), nan=low, posinf=high, neginf=low)
            strip = ((numbers - low) * 255 / (high - low)).clip(0, 255)
        else:
            strip = strip // 257
        scaled[top : top + rows] = strip
    return scaled
