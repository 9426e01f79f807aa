"""Raise an ImportError with instructions if detectron2 is missing; packages that need it import this module first."""

import warnings

from .utils.detectron2_check import HOW, detectron2_is_installed

if not detectron2_is_installed():
    raise ImportError(HOW)

# PyTorch warns of code in detectron2 and fvcore, which a user of this project cannot change.
warnings.filterwarnings("ignore", message="`torch.jit.script` is (deprecated|not supported)", category=FutureWarning)
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
