"""The one exception type for mistakes that a user can mend, and the most common check that raises it."""

import re


class UsageError(ValueError):
    """A mistake in a config, a command line or a data set.

    Its message is one sentence that names the thing, where it is, and what to do; the launcher
    prints that sentence instead of a traceback.
    """

    def __init__(self, message):
        if message.startswith("Caught UsageError in"):  # a DataLoader puts the worker's traceback before the message
            message = re.split(r"^[\w.]*UsageError: ", message, flags=re.MULTILINE)[-1]
        super().__init__(message.strip())


# What the launcher prints the message of, without a traceback.
ONE_SENTENCE = (UsageError, FloatingPointError)


def check_choice(key, value, choices):
    """Raise a UsageError unless ``value`` of config key ``key`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{key} is '{value}'; it must be {_listed(choices)}.")


def _listed(choices):
    *first, last = (str(choice) or '""' for choice in choices)
    return f"{', '.join(first)} or {last}" if first else last
