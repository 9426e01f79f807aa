"""Reading one image, from a folder or out of a zip archive, as 8-bit RGB."""

import functools
import io
import os
import zipfile

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ZIP_SEPARATOR = ".zip@/"


class UnreadableImage(Exception):
    """A file that does not give a usable image; the message names the file and the reason."""


def zip_member(archive, member):
    """File name of ``member`` in the zip file ``archive``, as :func:`read_image` takes it."""
    return f"{archive}@/{member}"


@functools.lru_cache(maxsize=8)
def _open_zip(path, process):
    """Archive handle; ``process`` keys the cache, because a file position must not be shared by forked workers."""
    return zipfile.ZipFile(path)


def read_bytes(file_name):
    """Content of a file; ``archive.zip@/member`` names a member of a zip file."""
    if ZIP_SEPARATOR in file_name:
        archive, member = file_name.split(ZIP_SEPARATOR, 1)
        return _open_zip(archive + ".zip", os.getpid()).read(member)
    with open(file_name, "rb") as file:
        return file.read()


def read_image(file_name):
    """Decode an image file to 8-bit RGB, upright by its EXIF orientation.

    Greyscale, palette and CMYK images are converted; 16-bit ones are scaled to 8 bits (PIL alone would clip).

    Returns:
        PIL.Image.Image: mode RGB.

    Raises:
        UnreadableImage: for a missing, truncated or broken file, an unknown format, or an image with a side
            below 2 pixels, in which no two pixels can be told apart.
    """
    try:
        image = Image.open(io.BytesIO(read_bytes(file_name)))
        image.load()
        image = _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:  # its own message names a buffer in memory
        raise UnreadableImage(f"{file_name}: not an image in a format that Pillow knows") from error
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise UnreadableImage(f"{file_name}: {type(error).__name__}: {error}") from error
    if min(image.size) < 2:
        raise UnreadableImage(f"{file_name}: {image.width} x {image.height} pixels; both sides need at least 2")
    return image


def _to_rgb(image):
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if image.mode.startswith("I"):  # 16 bits, in PIL's modes I, I;16, I;16B
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    return image.convert("RGB")
