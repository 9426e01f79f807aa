"""The exception type for mistakes that a user can fix, and the most common check that raises it."""

import re
from collections.abc import Iterable


class UsageError(ValueError):
    """A mistake in a config, a command line or a data set.

    The message is one sentence that names the thing, where it is, and what to do. The launcher
    prints the message instead of a traceback.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught UsageError in"):  # a DataLoader puts the worker's traceback before the message
            message = re.split(r"^[\w.]*UsageError: ", message, flags=re.MULTILINE)[-1]
        super().__init__(message.strip())


# Exceptions whose message the launcher prints without a traceback.
ONE_SENTENCE = (UsageError, FloatingPointError)


def check_choice(key: str, value: object, choices: Iterable) -> None:
    """Raise a UsageError unless ``value`` of config key ``key`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{key} is '{value}'; it must be {_listed(choices)}.")


def _listed(choices: Iterable) -> str:
    *first, last = (str(choice) or '""' for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last
