"""Import it first in a package that needs detectron2: an ImportError without detectron2 then says how to get it."""

from .utils.detectron2_check import HOW, detectron2_is_installed

if not detectron2_is_installed():
    raise ImportError(HOW)
