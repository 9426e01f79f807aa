"""Run programs, each by ``python -m pixpro_d2.tools.NAME``.

A module here is a command line: its parser, and a function that loads PyTorch and the work after the arguments.
"""

from .. import needs_detectron2  # noqa: F401
