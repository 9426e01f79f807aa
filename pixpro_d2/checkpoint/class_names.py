"""The names of the classes that a checkpoint was trained with, which its weights do not tell."""

from collections.abc import Sequence
from itertools import zip_longest

from ..utils.errors import UsageError

KEY = "classes"  # entry of a checkpoint


def check_class_names(stored: object, ours: Sequence[str] | None, path: str) -> None:
    """Check that a model goes on with the classes that it was trained with.

    Args:
        stored: entry ``KEY`` of the file; anything but a list of names, as of other code, is not compared.
        ours: classes of the data sets; None where they have no names.
        path: of the file, for messages.

    Raises:
        UsageError: naming the first class that differs.
    """
    if ours is None or not isinstance(stored, list) or not all(isinstance(name, str) for name in stored):
        return
    for i, (theirs, name) in enumerate(zip_longest(stored, ours)):
        if theirs != name:
            raise UsageError(
                f"Class {i} is {_quoted(theirs)} in the training that wrote {path}, but {_quoted(name)} in the data "
                "sets of this config: name data sets of the same classes in the same order."
            )


def _quoted(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"
