"""The pre-training meta-architecture: online and target branch, and the losses between them."""

import copy

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import nn

from ..data.collate import collate_views
from ..errors import UsageError, check_choice
from .backbone import feature_channels, forward_with_last, last_feature_channels, zero_init_residual
from .correspondence import normalize_boxes, positive_pairs
from .instance import InstanceBranch
from .losses import pixcontrast_loss, pixpro_loss
from .ppm import PixelPropagation
from .projector import LevelHeads, Projector


@META_ARCH_REGISTRY.register()
class PixPro(nn.Module):
    """PixPro (Xie et al., CVPR 2021) and PixContrast on any detectron2 backbone.

    Online branch: backbone - projector - PPM (optional) - L2. Target branch: momentum copies of backbone
    and projector - L2; without gradient, in train mode, with running statistics of their own. The two views
    go through each branch one after the other, so that a batch norm sees one view at a time (official code).

    The online backbone is ``backbone``, so that its weights load into detectron2's detectors as they are.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone,
        in_features,
        projector,
        ppm,
        instance,
        instance_weight,
        loss,
        temperature,
        mean_over,
        pos_ratio,
        distance_units,
        official_rounding,
        momentum,
        pixel_mean,
        pixel_std,
        metrics_period,
    ):
        """
        Args:
            backbone (Backbone): a detectron2 backbone.
            in_features (list[str]): its features that carry a pixel loss.
            projector (LevelHeads): a projector for each of them.
            ppm (LevelHeads or None): a pixel propagation module for each of them.
            instance (InstanceBranch or None): on the last of the bottom-up network's features.
            instance_weight (float): alpha.
            loss (str): ``pixpro`` or ``pixcontrast``, with ``temperature`` and ``mean_over`` as in
                :mod:`pixpro_d2.modeling.losses`.
            pos_ratio, distance_units, official_rounding: as in :mod:`pixpro_d2.modeling.correspondence`.
            momentum (float): start value of the target's momentum; the trainer's EMA hook uses it.
            pixel_mean, pixel_std (list[float]): per channel, of uint8 images.
            metrics_period (int): iterations between two records of the monitoring scalars.
        """
        super().__init__()
        self.backbone = backbone
        self.in_features = list(in_features)
        self.projector = projector
        self.ppm = ppm
        self.instance = instance
        self.instance_weight = instance_weight
        self.loss = loss
        self.temperature = temperature
        self.mean_over = mean_over
        self.pos_ratio = pos_ratio
        self.distance_units = distance_units
        self.official_rounding = official_rounding
        self.momentum = momentum
        self.metrics_period = metrics_period
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

        self.target_backbone = copy.deepcopy(backbone)
        self.target_projector = copy.deepcopy(projector)
        self.target_instance_projector = copy.deepcopy(instance.projector) if instance else None
        for _, target in self.momentum_pairs():
            target.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg):
        pixpro = cfg.MODEL.PIXPRO
        check_choice("MODEL.PIXPRO.LOSS", pixpro.LOSS, ("pixpro", "pixcontrast"))
        check_choice("MODEL.PIXPRO.MEAN_OVER", pixpro.MEAN_OVER, ("all", "matched"))
        check_choice("MODEL.PIXPRO.DISTANCE_UNITS", pixpro.DISTANCE_UNITS, ("normalized", "pixel"))
        backbone = build_backbone(cfg)
        if pixpro.ZERO_INIT_RESIDUAL:
            zero_init_residual(backbone)
        channels = feature_channels(backbone, pixpro.IN_FEATURES)
        check_crop_size(backbone, cfg.INPUT.PIXPRO.CROP_SIZE)
        hidden, out = pixpro.PROJECTOR.HIDDEN_DIM, pixpro.PROJECTOR.OUT_DIM
        instance = None
        if pixpro.INSTANCE.WEIGHT > 0:
            instance = InstanceBranch(
                last_feature_channels(backbone), hidden, out,
                pixpro.INSTANCE.LOSS, pixpro.TEMPERATURE, pixpro.NORM,
            )  # fmt: skip
        return {
            "backbone": backbone,
            "in_features": pixpro.IN_FEATURES,
            "projector": LevelHeads(
                lambda width: Projector(width, hidden, out, pixpro.NORM), channels, pixpro.SHARE_HEADS
            ),
            "ppm": LevelHeads(
                lambda width: PixelPropagation(width, pixpro.PPM.NUM_LAYERS, pixpro.PPM.GAMMA, pixpro.NORM),
                dict.fromkeys(channels, out),
                pixpro.SHARE_HEADS,
            )
            if pixpro.PPM.ENABLED
            else None,
            "instance": instance,
            "instance_weight": pixpro.INSTANCE.WEIGHT,
            "loss": pixpro.LOSS,
            "temperature": pixpro.TEMPERATURE,
            "mean_over": pixpro.MEAN_OVER,
            "pos_ratio": pixpro.POS_RATIO,
            "distance_units": pixpro.DISTANCE_UNITS,
            "official_rounding": pixpro.OFFICIAL_ROUNDING,
            "momentum": pixpro.MOMENTUM,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "metrics_period": cfg.SOLVER.METRICS_PERIOD,
        }

    @property
    def device(self):
        """Where the model is, and its inputs are moved to."""
        return self.pixel_mean.device

    @property
    def has_unused_parameters(self):
        """Whether a part of the backbone serves only features without a loss; DistributedDataParallel must know."""
        return set(self.backbone.output_shape()) != set(self.in_features)

    def momentum_pairs(self):
        """(online, target) modules; the trainer's EMA hook moves each target towards its twin."""
        pairs = [(self.backbone, self.target_backbone), (self.projector, self.target_projector)]
        if self.instance is not None:
            pairs.append((self.instance.projector, self.target_instance_projector))
        return pairs

    def reset_target(self):
        """Make the target an exact copy of the online branch, for a run that starts from loaded weights."""
        for online, target in self.momentum_pairs():
            target.load_state_dict(online.state_dict())

    def forward(self, batched_inputs):
        """
        Args:
            batched_inputs: in training the batch that :func:`pixpro_d2.data.collate.collate_views` makes, or
                the list[dict] of samples that it is made from; in eval mode detectron2's list[dict] with

                * image: (C, H, W) tensor of values in [0, 255], channels in ``INPUT.FORMAT`` order.

        Returns:
            In training dict[str, Tensor]: ``loss_pix_<feature>`` for each feature, weighted so that their sum is
            the mean over the features (each in [-4, 4] before), and ``loss_ins``.
            In eval mode list[dict], one for each image, with the features (C, h, w) named by ``in_features``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        batch = collate_views(batched_inputs) if isinstance(batched_inputs, list) else batched_inputs
        views = [self._normalize(view) for view in batch["views"].unbind(1)]
        sizes = batch["image_sizes"].to(self.device, non_blocking=True)
        boxes = [
            normalize_boxes(view_boxes, sizes, self.distance_units, self.official_rounding)
            for view_boxes in batch["boxes"].to(self.device, non_blocking=True).unbind(1)
        ]
        projections, instance_queries = zip(*(self._online(view) for view in views))
        with torch.no_grad():
            keys, instance_keys = zip(*(self._target(view) for view in views))

        losses = {}
        for level in self.in_features:
            loss = self._pixel_loss(level, [x[level] for x in projections], [x[level] for x in keys], boxes)
            losses[f"loss_pix_{level}"] = loss / len(self.in_features)
        if self.instance is not None:
            first = self.instance.direction_loss(instance_queries[0], instance_keys[1])
            second = self.instance.direction_loss(instance_queries[1], instance_keys[0])
            losses["loss_ins"] = self.instance_weight * (first + second)
        return losses

    def _normalize(self, images):
        return (images.to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std

    def _features(self, backbone, images):
        """Features with a pixel loss, and the one of the instance branch (None without it)."""
        if self.instance is None:
            features, last = backbone(images), None
        else:
            features, last = forward_with_last(backbone, images)
        return {level: features[level] for level in self.in_features}, last

    def _online(self, images):
        features, last = self._features(self.backbone, images)
        return self.projector(features), None if last is None else self.instance.queries(last)

    def _target(self, images):
        features, last = self._features(self.target_backbone, images)
        keys = {level: _unit(x) for level, x in self.target_projector(features).items()}
        return keys, None if last is None else self.instance.keys(self.target_instance_projector, last)

    def _pixel_loss(self, level, projections, keys, boxes):
        """Symmetric loss of one level, the sum of both directions."""
        queries = [_unit(self.ppm[level](x) if self.ppm is not None else x) for x in projections]
        with torch.autocast(self.device.type, enabled=False):
            grids = [x.shape[-2:] for x in queries]
            positives = positive_pairs(*boxes, *grids, self.pos_ratio)
            self._record(level, projections[0], positives)
            return self._direction(queries[0], keys[1], positives) + self._direction(
                queries[1], keys[0], positives.transpose(1, 2)
            )

    def _direction(self, q, k, positives):
        if self.loss == "pixcontrast":
            return pixcontrast_loss(q, k, positives, self.temperature) / 2
        return pixpro_loss(q, k, positives, self.mean_over)

    @torch.no_grad()
    def _record(self, level, projection, positives):
        """Put the monitoring scalars of one level into detectron2's EventStorage, every metrics_period iterations.

        Positive pairs per image, share of images without any, and the standard deviation of the unit
        feature vectors over all pixels: near 1 / sqrt(C) when healthy, 0 when collapsed.
        """
        storage = get_event_storage()
        if (storage.iter + 1) % self.metrics_period != 0:
            return
        pairs = positives.sum(dim=(1, 2)).float()
        std = _unit(projection).transpose(0, 1).flatten(1).std(dim=1).mean()
        scalars = torch.stack((pairs.mean(), (pairs == 0).float().mean(), std)).tolist()
        for name, value in zip(("positive_pairs", "images_without_pair", "feature_std"), scalars):
            storage.put_scalar(f"{name}/{level}", value, smoothing_hint=False)

    @torch.no_grad()
    def inference(self, batched_inputs):
        """Features of the online backbone; see :meth:`forward`."""
        images = ImageList.from_tensors(
            [self._normalize(x["image"]) for x in batched_inputs], self.backbone.size_divisibility
        )
        features = self.backbone(images.tensor)
        return [{level: features[level][i] for level in self.in_features} for i in range(len(batched_inputs))]


def _unit(x):
    """L2-normalise (N, C, H, W) over C, in float32."""
    return F.normalize(x.float(), dim=1)


def check_crop_size(backbone, crop_size):
    """Raise a UsageError for a view size that the backbone cannot take."""
    divisor = max(backbone.size_divisibility, 1)
    if crop_size < 1 or crop_size % divisor:
        raise UsageError(
            f"INPUT.PIXPRO.CROP_SIZE is {crop_size}; this backbone needs a positive multiple of {divisor}."
        )
