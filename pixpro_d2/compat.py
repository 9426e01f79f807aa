"""PixelCL of the package pixel-level-contrastive-learning (0.1.1), built from the parts of pixpro_d2.

A script that uses PixelCL only needs another import line; docs/learner.md lists the differences. Use
:class:`pixpro_d2.PixelLearner` in new code.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data.pretrain.device_photometric import DevicePhotometric
from .data.pretrain.photometric import Policy
from .learner.features import LayerFeatures, uncompiled
from .learner.heads import build_instance_branch, build_ppm, build_projector
from .learner.views import Normalize
from .modeling.pretrain.correspondence import bin_centers, pairs_within
from .modeling.pretrain.instance import InstanceBranch
from .modeling.pretrain.methods import LevelView, PixelMethod, PixProMethod
from .modeling.pretrain.two_branch import TwoBranch
from .utils.errors import check_choice
from .utils.modules import device_of

# PixelCL blurs with a 3 x 3 kernel of sigma 1.5. The kernel is so small that its standard deviation is 0.78 pixels.
AUGMENTATION = Policy(
    jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=0.8, grayscale_p=0.2, blur_p=0.1, blur_radius=(0.78, 0.78), solarize_p=0.5
)


class PixelCL(TwoBranch):
    """Train a network by PixPro or PixContrast, with PixelCL's arguments, defaults and scale of the loss.

    All images of a view share one crop box and one flip, drawn from Python's ``random``. Distances are in bins of the
    whole image. BYOL's instance loss is always part of the loss.
    """

    instance: InstanceBranch
    ppm: Any  # LevelHeads, None with PixContrast

    def __init__(
        self,
        net: nn.Module,
        image_size: int,
        hidden_layer_pixel: str | int = -2,
        hidden_layer_instance: str | int = -2,
        projection_size: int = 256,
        projection_hidden_size: int = 2048,
        augment_fn: Callable[[Tensor], Tensor] | None = None,
        augment_fn2: Callable[[Tensor], Tensor] | None = None,
        prob_rand_hflip: float = 0.25,
        moving_average_decay: float = 0.99,
        ppm_num_layers: int = 1,
        ppm_gamma: float = 2,
        distance_thres: float = 0.7,
        similarity_temperature: float = 0.3,
        alpha: float = 1.0,
        use_pixpro: bool = True,
        cutout_ratio_range: tuple[float, float] = (0.6, 0.8),
        cutout_interpolate_mode: str = "nearest",
        coord_cutout_interpolate_mode: str = "bilinear",
    ) -> None:
        """
        Args:
            net: takes float images (N, C, H, W).
            image_size: side of the images in pixels.
            hidden_layer_pixel: layer with a feature map (N, C, h, w); path of a module or position
                among ``net``'s children.
            hidden_layer_instance: layer of the instance loss, (N, C) or (N, C, h, w).
            projection_size, projection_hidden_size: output and hidden channels of the heads.
            augment_fn, augment_fn2: photometric augmentation of each view, from (N, C, H, W) in [0, 1] to the input
                of the network; the second is the first by default.
            prob_rand_hflip: probability that a view is mirrored.
            moving_average_decay: momentum of the target.
            ppm_num_layers: 0, 1 or 2.
            ppm_gamma: sharpness of the PPM, > 0.
            distance_thres: threshold in diagonals of a bin of the whole image.
            similarity_temperature: tau of PixContrast.
            alpha: weight of the pixel loss.
            use_pixpro: PixPro, or PixContrast without PPM.
            cutout_ratio_range: range of a crop's side as a share of the image's side.
            cutout_interpolate_mode: mode of ``torch.nn.functional.interpolate`` for crops.
            coord_cutout_interpolate_mode: ``bilinear``, which places the bins exactly.

        Raises:
            UsageError: for a layer that does not fit, or an option out of range.
        """
        check_choice("coord_cutout_interpolate_mode", coord_cutout_interpolate_mode, ("bilinear",))
        backbone = LayerFeatures(
            net, [hidden_layer_pixel], input_channels(net), (image_size, image_size), hidden_layer_instance
        )
        (level,) = backbone.in_features
        heads = projection_hidden_size, projection_size
        projector = build_projector({level: backbone.output_shape()[level].channels}, *heads, "BN", share_heads=True)
        propagation = None
        if use_pixpro:
            propagation = build_ppm(
                [level], projection_size, ppm_num_layers, ppm_gamma, "BN", True, normalize_values=False
            )
        super().__init__(
            backbone=backbone,
            in_features=[level],
            projector=projector,
            method=PixProMethod() if use_pixpro else BatchContrast(similarity_temperature),
            correspondence=WholeImageBins(distance_thres),
            ppm=propagation,
            instance=build_instance_branch(backbone, *heads, "byol", similarity_temperature, "BN"),
        )
        default = nn.Sequential(DevicePhotometric(AUGMENTATION), Normalize(input_channels(net)))
        self.augment1 = default if augment_fn is None else augment_fn
        self.augment2 = self.augment1 if augment_fn2 is None else augment_fn2
        self.prob_rand_hflip = prob_rand_hflip
        self.moving_average_decay = moving_average_decay
        self.alpha = alpha
        self.cutout_ratio_range = cutout_ratio_range
        self.cutout_interpolate_mode = cutout_interpolate_mode
        # PixPro's loss is -2 times the cosine, summed over both directions. PixelCL's is -1 times the cosine, averaged.
        self.pixel_scale = 1 / 4 if use_pixpro else 1
        self.to(device_of(net))

    @property
    def online_encoder(self) -> LayerFeatures:
        """Return the wrapper of the network; its attribute ``net`` is the network."""
        return self.backbone

    @property
    def target_encoder(self) -> LayerFeatures:
        """Return the wrapper of the network's momentum copy."""
        return self.target_backbone

    @property
    def propagate_pixels(self) -> nn.Module:
        """Return the PPM."""
        return self.ppm[self.in_features[0]]

    @property
    def online_predictor(self) -> nn.Module:
        """Return the predictor of the instance loss."""
        return self.instance.predictor

    def forward(self, x: Tensor, return_positive_pairs: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Draw two views of each image and compute the loss.

        Args:
            x: (N, C, H, W) float in [0, 1].
            return_positive_pairs: also return how many pairs of pixels match.

        Returns:
            The loss, 0-d; or a tuple of the loss and the number of matching pairs of an image, 0-d int64.
        """
        views, boxes = self._views(x)
        losses, comparisons = self.compare(views, boxes)
        (level,) = self.in_features
        # Both directions of the instance loss are 2 - 2 cos here, -2 cos in the official code.
        loss = self.alpha * self.pixel_scale * losses[f"loss_pix_{level}"] + 4 + losses["loss_ins"]
        return (loss, comparisons[level].positives[0].sum()) if return_positive_pairs else loss

    def update_moving_average(self) -> None:
        """Move the target towards the online network; call this after each step of the optimizer."""
        self.move_target(self.moving_average_decay)

    def reset_moving_average(self) -> None:
        """Make the target a copy of the online network."""
        self.reset_target()

    @torch.compiler.disable
    @torch.no_grad()
    def _views(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Draw two views; return the views, and their boxes (N, 4) in pixels over the image's diagonal.

        :class:`WholeImageBins` multiplies the boxes by the side of the feature map. A bin of a square image then has
        the diagonal 1.
        """
        size = images.shape[-2:]
        flips = [random.random() < self.prob_rand_hflip for _ in range(2)]
        crops = [draw_crop(size, self.cutout_ratio_range) for _ in range(2)]
        views, boxes = [], []
        for augment, flip, (x0, y0, x1, y1) in zip((self.augment1, self.augment2), flips, crops):
            view = F.interpolate(images[:, :, y0:y1, x0:x1], size, mode=self.cutout_interpolate_mode)
            views.append(augment(view.flip(-1) if flip else view))
            box = torch.tensor([x1, y0, x0, y1] if flip else [x0, y0, x1, y1]) / math.hypot(*size)
            boxes.append(box.to(images.device, non_blocking=True).expand(len(images), -1))
        return views, boxes


class WholeImageBins:
    """Find the positive pairs of boxes closer than a threshold, in diagonals of a bin of the whole image."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, boxes: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        scales = [torch.tensor(grid[::-1]).to(box.device, non_blocking=True) for box, grid in zip(boxes, grids)]
        centers_q, centers_k = (bin_centers(box, grid) * scale for box, grid, scale in zip(boxes, grids, scales))
        there = pairs_within(centers_q, centers_k, boxes[0].new_ones(len(boxes[0])), self.threshold)
        return there, there.transpose(1, 2)


class BatchContrast(PixelMethod):
    """Contrast as PixelCL does: take the logarithm of sums over all pixels of all images, as if they were one query."""

    def __init__(self, temperature: float) -> None:
        """
        Args:
            temperature: tau.
        """
        super().__init__()
        self.temperature = temperature

    def direction(self, level: str, query: LevelView, key: LevelView, positives: Tensor) -> Tensor:
        logits = query.queries.flatten(2).transpose(1, 2) @ key.keys.flatten(2) / self.temperature
        # If no pair is positive, all pairs count as positive, so the loss is 0.
        matching = logits.masked_fill(~(positives | ~positives.any()), float("-inf"))
        return (logits.flatten().logsumexp(dim=0) - matching.flatten().logsumexp(dim=0)) / 2


def draw_crop(size: Sequence[int], ratio_range: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draw a box (x0, y0, x1, y1) in whole pixels, with the proportions of the image of ``size`` (height, width)."""
    height, width = size
    ratio = random.uniform(*ratio_range)
    w, h = int(ratio * width), int(ratio * height)
    left, top = int((width - w) * random.random()), int((height - h) * random.random())
    return left, top, left + w, top + h


def input_channels(net: nn.Module) -> int:
    """Return the number of input channels of a network's first convolution, 3 if it has no convolution."""
    convolutions = (module for module in uncompiled(net).modules() if isinstance(module, nn.Conv2d))
    return next((convolution.in_channels for convolution in convolutions), 3)
