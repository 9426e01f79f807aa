"""The one exception type for mistakes that a user can mend."""


class UsageError(ValueError):
    """A mistake in a config, a command line or a data set.

    Its message is one sentence that names the thing, where it is, and what to do; the launcher
    prints that sentence instead of a traceback.
    """
