"""The one exception type for mistakes that a user can mend, and the most common check that raises it."""


class UsageError(ValueError):
    """A mistake in a config, a command line or a data set.

    Its message is one sentence that names the thing, where it is, and what to do; the launcher
    prints that sentence instead of a traceback.
    """

    def __init__(self, message):
        # A DataLoader hands a worker's exception on with the worker's traceback in front of the message.
        super().__init__(message.rpartition("UsageError: ")[2].strip())


# What the launcher prints the message of, without a traceback.
ONE_SENTENCE = (UsageError, FloatingPointError)


def check_choice(key, value, choices):
    """Raise a UsageError unless ``value`` of config key ``key`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{key} is '{value}'; it must be {_listed(choices)}.")


def _listed(choices):
    *first, last = map(str, choices)
    return f"{', '.join(first)} or {last}" if first else last
