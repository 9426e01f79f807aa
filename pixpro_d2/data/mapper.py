"""From a data set's dict to two augmented views of its image."""

import numpy as np
from detectron2.config import configurable

from ..errors import UsageError, check_choice
from .photometric import POLICIES, apply, to_array
from .reader import read_image
from .views import sample_view


class TwoViewMapper:
    """Decode an image once and cut two views out of it, each with its own crop, flip and colours."""

    @configurable
    def __init__(self, *, policies, crop_size, min_scale, image_format):
        """
        Args:
            policies (tuple[Policy, Policy]): photometric augmentation of the first and second view.
            crop_size (int): side of the views in pixels.
            min_scale (float): smallest crop area as a share of the image, in (0, 1].
            image_format (str): RGB, BGR or L.
        """
        self.policies = policies
        self.crop_size = crop_size
        self.min_scale = min_scale
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg):
        pixpro = cfg.INPUT.PIXPRO
        aug = pixpro.AUG.lower()
        check_choice("INPUT.PIXPRO.AUG", aug, POLICIES)
        if not 0 < pixpro.MIN_SCALE <= 1:
            raise UsageError(f"INPUT.PIXPRO.MIN_SCALE is {pixpro.MIN_SCALE}; it must be in (0, 1].")
        return {
            "policies": POLICIES[aug],
            "crop_size": pixpro.CROP_SIZE,
            "min_scale": pixpro.MIN_SCALE,
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, dataset_dict, rng=None):
        """
        Args:
            dataset_dict (dict): of any detectron2 data set; only ``file_name`` is used, and left as it is.
            rng (numpy.random.Generator): source of all randomness; a fresh one by default.

        Returns:
            dict: views (2, C, S, S) uint8; boxes (2, 4) float32, signed, in pixels of the upright original;
            image_size (height, width); file_name.

        Raises:
            UnreadableImage: see :func:`pixpro_d2.data.reader.read_image`.
        """
        rng = rng or np.random.default_rng()
        image = read_image(dataset_dict["file_name"])
        views = [sample_view(rng, image.width, image.height, self.min_scale) for _ in self.policies]
        pixels = [
            to_array(apply(policy.sample(rng), view.render(image, self.crop_size)), self.image_format)
            for policy, view in zip(self.policies, views)
        ]
        return {
            "views": np.stack(pixels),
            "boxes": np.stack([view.box for view in views]),
            "image_size": (image.height, image.width),
            "file_name": dataset_dict["file_name"],
        }
