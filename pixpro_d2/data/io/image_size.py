"""Read the size of an image without its pixels."""

from PIL import Image

from ...utils.errors import UnreadableImage
from .reader import header_source, upright_size


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
