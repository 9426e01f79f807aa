"""Replacing an attribute of somebody else's module for a while."""

import contextlib


@contextlib.contextmanager
def replaced(owner, name, value):
    """Set an attribute of a module within the context; afterwards it is as before."""
    missing = object()
    before = getattr(owner, name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
