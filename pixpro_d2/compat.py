"""PixelCL of the package pixel-level-contrastive-learning (0.1.1), built from the parts of this one.

A script that uses it runs on with its import line changed; docs/learner.md lists what is different. New code is
better served by :class:`pixpro_d2.PixelLearner`.
"""

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

from .data.pretrain.device_photometric import DevicePhotometric
from .data.pretrain.photometric import Policy
from .learner.features import LayerFeatures, uncompiled
from .learner.heads import build_instance_branch, build_ppm, build_projector
from .learner.views import Normalize
from .modeling.pretrain.correspondence import bin_centers, pairs_within
from .modeling.pretrain.methods import PixelMethod, PixProMethod
from .modeling.pretrain.two_branch import TwoBranch
from .utils.errors import check_choice
from .utils.modules import device_of

# Its blur is a 3 x 3 kernel of sigma 1.5, cut off so early that its standard deviation is 0.78 pixels.
AUGMENTATION = Policy(
    jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=0.8, grayscale_p=0.2, blur_p=0.1, blur_radius=(0.78, 0.78), solarize_p=0.5
)


class PixelCL(TwoBranch):
    """PixPro or PixContrast of a network, with PixelCL's arguments, defaults and scale of the loss.

    One crop box and one flip for all images of a view, drawn from Python's ``random``; distances in bins of the whole
    image; BYOL's instance loss is always part of the loss.
    """

    def __init__(
        self,
        net,
        image_size,
        hidden_layer_pixel=-2,
        hidden_layer_instance=-2,
        projection_size=256,
        projection_hidden_size=2048,
        augment_fn=None,
        augment_fn2=None,
        prob_rand_hflip=0.25,
        moving_average_decay=0.99,
        ppm_num_layers=1,
        ppm_gamma=2,
        distance_thres=0.7,
        similarity_temperature=0.3,
        alpha=1.0,
        use_pixpro=True,
        cutout_ratio_range=(0.6, 0.8),
        cutout_interpolate_mode="nearest",
        coord_cutout_interpolate_mode="bilinear",
    ):
        """
        Args:
            net (nn.Module): takes float images (N, C, H, W).
            image_size (int): side of the images in pixels.
            hidden_layer_pixel (str or int): layer with a feature map (N, C, h, w); path of a module or position
                among ``net``'s children.
            hidden_layer_instance (str or int): layer of the instance loss, (N, C) or (N, C, h, w).
            projection_size, projection_hidden_size (int): output and hidden channels of the heads.
            augment_fn, augment_fn2 (Callable): photometric augmentation of each view, (N, C, H, W) in [0, 1] to what
                the network expects; the second is the first by default.
            prob_rand_hflip (float): probability that a view is mirrored.
            moving_average_decay (float): momentum of the target.
            ppm_num_layers (int): 0, 1 or 2.
            ppm_gamma (float): sharpness of the PPM, > 0.
            distance_thres (float): threshold in diagonals of a bin of the whole image.
            similarity_temperature (float): tau of PixContrast.
            alpha (float): weight of the pixel loss.
            use_pixpro (bool): PixPro, or PixContrast without PPM.
            cutout_ratio_range (tuple[float, float]): side of a crop as a share of the image's.
            cutout_interpolate_mode (str): of ``torch.nn.functional.interpolate``, for crops.
            coord_cutout_interpolate_mode (str): ``bilinear``, which places the bins exactly.

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
        # PixPro's loss is -2 times the cosine, summed over both directions; PixelCL's -1 times, averaged.
        self.pixel_scale = 1 / 4 if use_pixpro else 1
        self.to(device_of(net))

    @property
    def online_encoder(self):
        """The wrapper of the network, which is its ``net``."""
        return self.backbone

    @property
    def target_encoder(self):
        """The wrapper of the network's momentum copy."""
        return self.target_backbone

    @property
    def propagate_pixels(self):
        """The PPM."""
        return self.ppm[self.in_features[0]]

    @property
    def online_predictor(self):
        """The predictor of the instance loss."""
        return self.instance.predictor

    def forward(self, x, return_positive_pairs=False):
        """
        Args:
            x (Tensor): (N, C, H, W) float in [0, 1].
            return_positive_pairs (bool): also return how many pairs of pixels match.

        Returns:
            Tensor: the loss, 0-d; or a tuple of it and the number of matching pairs of an image, 0-d int64.
        """
        views, boxes = self._views(x)
        losses, comparisons = self.compare(views, boxes)
        (level,) = self.in_features
        # Both directions of the instance loss are 2 - 2 cos here, -2 cos in the official code.
        loss = self.alpha * self.pixel_scale * losses[f"loss_pix_{level}"] + 4 + losses["loss_ins"]
        return (loss, comparisons[level].positives[0].sum()) if return_positive_pairs else loss

    def update_moving_average(self):
        """Move the target towards the online network; call it after each step of the optimizer."""
        self.move_target(self.moving_average_decay)

    def reset_moving_average(self):
        """Make the target a copy of the online network."""
        self.reset_target()

    @torch.compiler.disable
    @torch.no_grad()
    def _views(self, images):
        """Two views, and their boxes (N, 4) in pixels over the image's diagonal.

        Times the side of the feature map (:class:`WholeImageBins`) a bin of a square image has the diagonal 1.
        """
        size = images.shape[-2:]
        flips = [random.random() < self.prob_rand_hflip for _ in range(2)]
        crops = [draw_crop(size, self.cutout_ratio_range) for _ in range(2)]
        views, boxes = [], []
        for augment, flip, (x0, y0, x1, y1) in zip((self.augment1, self.augment2), flips, crops):
            view = F.interpolate(images[:, :, y0:y1, x0:x1], size, mode=self.cutout_interpolate_mode)
            views.append(augment(view.flip(-1) if flip else view))
            box = torch.tensor([x1, y0, x0, y1] if flip else [x0, y0, x1, y1]) / math.hypot(*size)
            boxes.append(box.to(images.device).expand(len(images), -1))
        return views, boxes


class WholeImageBins:
    """Positives of boxes closer than a threshold, in diagonals of a bin of the whole image."""

    def __init__(self, threshold):
        self.threshold = threshold

    def __call__(self, boxes, grids):
        scales = [torch.tensor(grid[::-1]).to(box.device, non_blocking=True) for box, grid in zip(boxes, grids)]
        centers = [bin_centers(box, grid) * scale for box, grid, scale in zip(boxes, grids, scales)]
        there = pairs_within(*centers, boxes[0].new_ones(len(boxes[0])), self.threshold)
        return there, there.transpose(1, 2)


class BatchContrast(PixelMethod):
    """PixelCL's contrast: the logarithm is taken of sums over all pixels of all images, as if they were one query."""

    def __init__(self, temperature):
        """
        Args:
            temperature (float): tau.
        """
        super().__init__()
        self.temperature = temperature

    def direction(self, level, query, key, positives):
        logits = query.queries.flatten(2).transpose(1, 2) @ key.keys.flatten(2) / self.temperature
        matching = logits.masked_fill(~(positives | ~positives.any()), float("-inf"))  # all, a loss of 0, if none is
        return (logits.flatten().logsumexp(dim=0) - matching.flatten().logsumexp(dim=0)) / 2


def draw_crop(size, ratio_range):
    """Box (x0, y0, x1, y1) in whole pixels, of the proportions of the image of ``size`` (height, width)."""
    height, width = size
    ratio = random.uniform(*ratio_range)
    w, h = int(ratio * width), int(ratio * height)
    left, top = int((width - w) * random.random()), int((height - h) * random.random())
    return left, top, left + w, top + h


def input_channels(net):
    """Input channels of a network's first convolution, 3 if it has none."""
    convolutions = (module for module in uncompiled(net).modules() if isinstance(module, nn.Conv2d))
    return next((convolution.in_channels for convolution in convolutions), 3)
