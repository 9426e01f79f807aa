"""Map a dataset dict to two augmented views of its image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode, configurable

from ...utils.errors import check_choice
from ..io.reader import EncodedImage
from .photometric import POLICIES, Policy, apply, to_format
from .views import View, sample_pair


class TwoViewMapper:
    """Decode an image once and cut two views out of it, each with its own crop, flip and colours."""

    @configurable
    def __init__(
        self,
        *,
        policies: tuple[Policy, Policy],
        crop_size: int,
        min_scale: float,
        image_format: str,
        max_scale: float = 1.0,
        min_overlap: float = 0.0,
        redraw: str = "both",
        interpolation: str = "bilinear",
        draft: bool = True,
        aug_device: str = "cpu",
        pixel_range: tuple[float, ...] = (),
    ) -> None:
        """
        Args:
            policies: photometric augmentation of the first and second view.
            crop_size: side of the views in pixels.
            min_scale: smallest crop area as a share of the image, in (0, 1].
            image_format: RGB, BGR or L.
            max_scale: largest crop area as a share of the image, from ``min_scale`` to 1.
            min_overlap, redraw: least overlap of the two crops, see :func:`pixpro_d2.data.pretrain.views.sample_pair`.
            interpolation: how to resize a crop, out of ``views.INTERPOLATIONS``.
            draft: decode JPEG files no larger than the views need.
            aug_device: ``cpu`` applies the photometric augmentation here; ``model`` leaves it to
                :func:`pixpro_d2.data.pretrain.device_photometric.apply_recipes`.
            pixel_range: see :class:`pixpro_d2.data.io.reader.EncodedImage`.
        """
        self.policies = policies
        self.crop_size = crop_size
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.min_overlap = min_overlap
        self.redraw = redraw
        self.interpolation = interpolation
        self.image_format = image_format
        self.draft = draft
        self.aug_device = aug_device
        self.pixel_range = pixel_range

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        pixpro = cfg.INPUT.PIXPRO
        aug = pixpro.AUG.lower()
        check_choice("INPUT.PIXPRO.AUG", aug, POLICIES)
        return {
            "policies": POLICIES[aug],
            "crop_size": pixpro.CROP_SIZE,
            "min_scale": pixpro.MIN_SCALE,
            "max_scale": pixpro.MAX_SCALE,
            "min_overlap": pixpro.MIN_OVERLAP,
            "redraw": pixpro.REDRAW,
            "interpolation": pixpro.INTERPOLATION,
            "image_format": cfg.INPUT.FORMAT,
            "draft": pixpro.DRAFT,
            "aug_device": cfg.INPUT.AUG_DEVICE,
            "pixel_range": tuple(cfg.INPUT.PIXEL_RANGE),
        }

    def __call__(self, dataset_dict: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Make a sample of two views.

        Args:
            dataset_dict: dict of any detectron2 data set; only ``file_name`` is read, and the dict stays unchanged.
            rng: source of all randomness; a new generator by default.

        Returns:
            views (2, C, S, S) uint8; boxes (2, 4) float32, signed, in pixels of the upright original;
            image_size (height, width); file_name. With ``aug_device`` ``model``, the views are RGB without photometric
            augmentation, and recipes is a list of the two :class:`Recipe` to apply.

        Raises:
            UnreadableImage: see :class:`pixpro_d2.data.io.reader.EncodedImage`.
        """
        rng = rng or np.random.default_rng()
        image = EncodedImage(dataset_dict["file_name"], self.pixel_range)
        return {**self.cut_views((image, image), rng), "file_name": dataset_dict["file_name"]}

    def draw_views(self, rng: np.random.Generator, width: int, height: int) -> tuple[View, View]:
        """Draw the crop boxes of two views of an image of ``width`` x ``height`` pixels."""
        return sample_pair(rng, width, height, self.min_scale, self.max_scale, self.min_overlap, self.redraw)

    def cut_views(self, images: tuple[EncodedImage, EncodedImage], rng: np.random.Generator) -> dict[str, Any]:
        """Cut the first view out of the first image, and the second view out of the second image.

        Args:
            images: two images of the same size.
            rng: source of all randomness.

        Returns:
            The entries that a call of the mapper returns, without file_name.
        """
        width, height = images[0].size
        views = self.draw_views(rng, width, height)
        recipes = [policy.sample(rng) for policy in self.policies]
        decoded = [image.decode(self.max_shrink(views)) for image in images]
        pixels = [
            view.render(image, self.crop_size, shrink, self.interpolation)
            for view, (image, shrink) in zip(views, decoded)
        ]
        sample: dict[str, Any] = {"boxes": np.stack([view.box for view in views]), "image_size": (height, width)}
        if self.aug_device == "model":
            return {**sample, "views": np.stack(pixels), "recipes": recipes}
        pixels = [to_format(apply(recipe, image), self.image_format) for recipe, image in zip(recipes, pixels)]
        return {**sample, "views": np.stack(pixels)}

    def max_shrink(self, views: Sequence[View]) -> int:
        """Return the largest divisor of the image size for decoding that does not require enlarging a view."""
        if not self.draft:
            return 1
        return max(1, min(min(view.width, view.height) for view in views) // self.crop_size)
