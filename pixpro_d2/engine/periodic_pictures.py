"""What all pictures that a training draws of itself share: when, of how many images, and where they go."""

import logging
import os

from detectron2.engine import HookBase
from torchvision.transforms.functional import pil_to_tensor

from ..checkpoint.writing import write_file

logger = logging.getLogger(__name__)

COUNT = 3  # fixed images
FOLDER = "vis"  # below OUTPUT_DIR


class PeriodicPictures(HookBase):
    """Calls ``draw(done)`` after every so many iterations, ``done`` in all, and after the last one."""

    def __init__(self, period, folder):
        """
        Args:
            period (int): iterations from one set of pictures to the next; the last iteration has one too.
            folder (str): for the files ``NAME_0000199.png``, where 199 is the iteration, counted from 0.
        """
        self.period = period
        self.folder = folder

    def after_step(self):
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            self.draw(done)

    def write(self, name, picture):
        """Hand a picture (PIL.Image.Image, RGB) to the trainer's writers, and write its file."""
        self.trainer.storage.put_image(name, pil_to_tensor(picture))
        path = os.path.join(self.folder, f"{name}_{self.trainer.iter:07d}.png")
        try:
            os.makedirs(self.folder, exist_ok=True)
            write_file(path, lambda partial: picture.save(partial, format="PNG"))
        except OSError as error:  # no run ends for a picture
            logger.warning(f"The picture {path} could not be written: {error}.")


def spread(i, count):
    """The ``i``-th of ``count`` things to look at, far from those before it."""
    return int((i + 0.5) * 0.6180339887 % 1 * count)  # golden ratio
