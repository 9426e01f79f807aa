"""Accept a single name without brackets for config keys that hold a list of names."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...data.datasets.catalog import is_name
from ...utils.errors import UsageError
from ...utils.nested import set_value, value_of

NAME_LISTS = ("DATASETS.TRAIN", "DATASETS.TEST", "MODEL.PIXPRO.IN_FEATURES", "MODEL.TIMM.OUT_FEATURES")


@contextlib.contextmanager
def single_names_accepted(cfg: CfgNode) -> Iterator[None]:
    """Accept one string for a key of ``NAME_LISTS`` within this context; make a list of it at the end.

    Raises:
        UsageError: at the end of the context, for another value.
    """
    before = {key: value_of(cfg, key) for key in NAME_LISTS}
    for key in NAME_LISTS:
        set_value(cfg, key, None)  # a key without a value accepts any type
    yield
    for key, default in before.items():
        value = value_of(cfg, key)
        set_value(cfg, key, default if value is None else type(default)(_names(key, value)))


def _names(key: str, value: Any) -> Sequence[str]:
    """Return the names in the value of ``key``, which may be one name."""
    if isinstance(value, str):
        if value.startswith(("(", "[")):
            raise UsageError(f"{key} is {value}: write each name within brackets in quotes, or one name alone.")
        parts = [part.strip() for part in value.split(",")]
        if len(parts) > 1 and all(map(is_name, parts)):
            several = ", ".join(f"'{part}'" for part in parts)
            raise UsageError(f'{key} is {value}: write several names as "({several})".')
        return [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{key} is {value!r}; it must be a name or a list of names.")
    return value
