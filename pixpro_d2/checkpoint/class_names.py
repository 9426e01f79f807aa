"""The names of the classes of a training, stored in its checkpoints."""

from collections.abc import Sequence

from ..utils.class_names import first_difference
from ..utils.errors import UsageError

KEY = "classes"  # entry of a checkpoint


def check_class_names(stored: object, ours: Sequence[str] | None, path: str) -> None:
    """Check that a model keeps the classes of its training.

    Args:
        stored: entry ``KEY`` of the file; anything but a list of names, as of other code, is not compared.
        ours: classes of the data sets; None where they have no names.
        path: of the file, for messages.

    Raises:
        UsageError: naming the first class that differs.
    """
    if ours is None or not isinstance(stored, list) or not all(isinstance(name, str) for name in stored):
        return
    if difference := first_difference(stored, ours):
        i, theirs, name = difference
        raise UsageError(
            f"Class {i} is {theirs} in the training that wrote {path}, but {name} in the data sets of this config: "
            "name data sets of the same classes in the same order."
        )
