"""The exception types of mistakes that a user can fix, their most common check, and their end of a process."""

import os
import re
import sys
from collections.abc import Iterable
from typing import NoReturn


class UsageError(ValueError):
    """A mistake in a config, a command line or a data set.

    The message is one sentence that names the thing, where it is, and what to do. The launcher
    prints the message instead of a traceback.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught UsageError in"):  # a DataLoader puts the worker's traceback before the message
            message = re.split(r"^[\w.]*UsageError: ", message, flags=re.MULTILINE)[-1]
        super().__init__(message.strip())


class UnreadableImage(Exception):
    """A file without a usable image; the message names the file and the reason."""


# Exceptions whose message the launcher prints without a traceback.
ONE_SENTENCE = (UsageError, FloatingPointError)


def exit_once(error: UsageError) -> NoReturn:
    """End the process with the message of ``error``; of several processes in torchrun, the first prints it."""
    sys.exit(f"error: {error}" if os.environ.get("RANK", "0") == "0" else 1)


def check_choice(key: str, value: object, choices: Iterable) -> None:
    """Raise a UsageError unless ``value`` of config key ``key`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{key} is '{value}'; it must be {_listed(choices)}.")


def _listed(choices: Iterable) -> str:
    *first, last = (str(choice) or '""' for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last
