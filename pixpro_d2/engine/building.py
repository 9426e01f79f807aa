"""Explain why detectron2 cannot build a part from a config whose single values are right."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from ..utils.errors import UsageError

_PACKAGE_FOLDER = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def refusals_explained(what: str, node: str) -> Iterator[None]:
    """Turn an error of detectron2 or PyTorch in this context into a UsageError of one sentence.

    An error raised by this project's own code passes as it is, because it is no mistake in the config.

    Args:
        what: part that is built, with its article.
        node: node of the config that describes the part.

    Raises:
        UsageError: for an assertion, an unknown key, or an unsuitable value.
    """
    try:
        yield
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, UsageError) or _PACKAGE_FOLDER in Path(place.filename).resolve().parents:
            raise
        words = " ".join(str(error.args[0] if error.args else place.line).split()).removesuffix(".")
        reason = f"{type(error).__name__} in {Path(place.filename).name}: {words}"
        raise UsageError(
            f"{what} cannot be built from the keys below {node} ({reason}): change the key that this is about."
        ) from error
