"""Configs whose single values are right, but which detectron2 cannot build anything with."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from ..utils.errors import UsageError

_OURS = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def refusals_explained(what: str, node: str) -> Iterator[None]:
    """Context in which what detectron2 or PyTorch refuses to build is told in one sentence.

    An error that arises in this project's own code is none of the config, and passes as it is.

    Args:
        what: is built, with its article.
        node: of the config that decides how.

    Raises:
        UsageError: for an assertion, or a value or key that is not known.
    """
    try:
        yield
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, UsageError) or _OURS in Path(place.filename).resolve().parents:
            raise
        words = " ".join(str(error.args[0] if error.args else place.line).split()).removesuffix(".")
        reason = f"{type(error).__name__} in {Path(place.filename).name}: {words}"
        raise UsageError(
            f"{what} cannot be built from the keys below {node} ({reason}): change the key that this is about."
        ) from error
