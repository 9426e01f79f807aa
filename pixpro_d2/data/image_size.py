"""The size of an image without its pixels."""

import io

from PIL import Image

from .reader import ZIP_SEPARATOR, UnreadableImage, read_bytes, upright_size


def read_size(file_name: str) -> tuple[int, int]:
    """Return (width, height) of an image once it is upright by its EXIF orientation.

    Only the header is read, except for a PNG file without an orientation there: it may follow the pixels.

    Raises:
        UnreadableImage: for a missing or broken file, or an unknown format.
    """
    try:
        source = io.BytesIO(read_bytes(file_name)) if ZIP_SEPARATOR in file_name else file_name
        with Image.open(source) as image:
            return upright_size(image)
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise UnreadableImage(f"{file_name}: {type(error).__name__}: {error}") from error
