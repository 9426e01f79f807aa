"""The pre-training meta-architecture: it connects the two branches with configs and detectron2's loop."""

import logging
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ...data.pretrain.collate import collate
from ...data.pretrain.device_photometric import apply_recipes, to_format
from ...utils.errors import UsageError
from ..backbone import bottom_up, derived_features, feature_channels, last_feature_channels
from ..heads.dense_head import build_dense_head
from ..residual import zero_init_residual
from .correspondence import BoxCorrespondence
from .correspondence_builder import build_correspondence
from .distillation_builder import build_distillation
from .instance import InstanceBranch
from .methods import METHODS
from .monitors import feature_std, pair_counts
from .ppm import PixelPropagation
from .projector import LevelHeads
from .two_branch import LevelComparison, TwoBranch

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class PixPro(TwoBranch):
    """Pre-train any detectron2 backbone on the level of pixels (Xie et al., CVPR 2021), by any of ``METHODS``.

    The online backbone is ``backbone``, and the detector's dense head ``head``. Under these names their weights load
    into detectron2's detectors without a change.
    """

    correspondence: BoxCorrespondence
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        momentum: float,
        pixel_mean: list[float],
        pixel_std: list[float],
        image_format: str,
        metrics_period: int,
        **branches: Any,
    ) -> None:
        """
        Args:
            momentum: start value of the target's momentum; the trainer's EMA hook uses it.
            pixel_mean, pixel_std: per channel, of uint8 images.
            image_format: channel order of uint8 images, RGB, BGR or L.
            metrics_period: iterations between two records of the monitoring scalars.
            **branches: arguments of :class:`pixpro_d2.modeling.pretrain.two_branch.TwoBranch`.
        """
        super().__init__(**branches)
        self.momentum = momentum
        self.image_format = image_format
        self.metrics_period = metrics_period
        self._first_iteration: int | None = None  # in which this object was trained
        self._has_warned = False
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        pixpro = cfg.MODEL.PIXPRO
        backbone = build_backbone(cfg)
        if pixpro.ZERO_INIT_RESIDUAL:
            zero_init_residual(backbone)
        check_crop_size(backbone, cfg.INPUT.PIXPRO.CROP_SIZE)
        heads = build_pixel_heads(cfg, backbone)
        return {
            "backbone": backbone,
            "in_features": pixpro.IN_FEATURES,
            **heads,
            "distillation": build_distillation(cfg, backbone, heads["head"]),
            "method": METHODS[pixpro.METHOD].from_config(cfg),
            "instance": build_instance_branch(cfg, backbone),
            "instance_weight": pixpro.INSTANCE.WEIGHT,
            "pixel_weight": pixpro.PIXEL_WEIGHT,
            "variance_weight": pixpro.VARIANCE_WEIGHT,
            "covariance_weight": pixpro.COVARIANCE_WEIGHT,
            "correspondence": build_correspondence(cfg),
            "momentum": pixpro.MOMENTUM,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "image_format": cfg.INPUT.FORMAT,
            "metrics_period": cfg.SOLVER.METRICS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """Return the model's device, to which its inputs are moved."""
        return self.pixel_mean.device

    @property
    def has_unused_parameters(self) -> bool:
        """Return whether the backbone has features without a loss; DistributedDataParallel must know."""
        unused = set(self.backbone.output_shape()) - set(self.used_features())
        return not unused <= derived_features(self.backbone)

    def used_features(self) -> dict[str, ShapeSpec]:
        """Return the shapes of the backbone's features that carry a loss."""
        shapes, used = self.backbone.output_shape(), set(self.in_features)
        if self.instance is not None and bottom_up(self.backbone) is self.backbone:
            used.add(list(shapes)[-1])
        return {name: shape for name, shape in shapes.items() if name in used}

    def forward(self, batched_inputs: Any) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the losses in training, and the backbone's features in eval mode.

        Args:
            batched_inputs: in training the batch that :func:`pixpro_d2.data.pretrain.collate.collate` makes, or
                the list of its samples; in eval mode detectron2's list of dicts with

                * image: (C, H, W) tensor of values in [0, 255], channels in ``INPUT.FORMAT`` order.

        Returns:
            In training the losses of :meth:`compare`. In eval mode one dict for each image, with the backbone's
            features (C, h, w) named by ``in_features``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        self._check_target_moves(get_event_storage().iter)
        batch = collate(batched_inputs) if isinstance(batched_inputs, list) else batched_inputs
        views, geometry = self.views_and_geometry(batch)
        losses, comparisons = self.compare(views, geometry)
        self._record(geometry, comparisons)
        return losses

    def views_and_geometry(self, batch: dict[str, Any]) -> tuple[Any, Any]:
        """Return the views and the geometry of a batch of the pre-training loader, as :meth:`compare` takes them."""
        views = batch["views"].to(self.device, non_blocking=True).unbind(1)
        if "recipes" in batch:  # INPUT.AUG_DEVICE is `model`
            mean, std = self.pixel_mean / 255, self.pixel_std / 255  # of images in [0, 1]
            views = [
                (to_format(apply_recipes(view / 255, recipes), self.image_format) - mean) / std
                for view, recipes in zip(views, batch["recipes"])
            ]
        else:
            views = [self._normalize(view) for view in views]
        return views, self.correspondence.geometry(batch, self.device)

    def _normalize(self, images: Tensor) -> Tensor:
        return (images.to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std

    def _check_target_moves(self, iteration: int) -> None:
        """Warn in the second iteration, once, if no hook has moved the target after the first iteration."""
        if self.has_moved_target or self._has_warned or not self.compares_branches:
            return
        if self._first_iteration is None:
            self._first_iteration = iteration
        elif iteration > self._first_iteration:
            self._has_warned = True
            logger.warning(
                "The target network of the pre-training does not move: register pixpro_d2.engine.hooks.EMAHook, or "
                "derive the trainer from pixpro_d2.engine.Trainer."
            )

    def _record(self, geometry: Any, comparisons: dict[str, LevelComparison]) -> None:
        """Put the monitoring scalars into detectron2's EventStorage, every metrics_period iterations.

        If a batch comes in parts, the scalars of its last part remain.
        """
        storage = get_event_storage()
        if (storage.iter + 1) % self.metrics_period != 0:
            return
        scalars = self.correspondence.monitors(geometry)
        for level, x in comparisons.items():
            scalars[f"positive_pairs/{level}"], scalars[f"images_without_pair/{level}"] = pair_counts(x.positives)
            if x.projection[:, 0].numel() > 1:  # a single vector has no standard deviation
                scalars[f"feature_std/{level}"] = feature_std(x.projection)
            with torch.autocast(x.projection.device.type, enabled=False):
                own = self.method.monitors(level, x.views)
            scalars.update({f"{name}/{level}": value for name, value in own.items()})
        if scalars:
            for name, value in zip(scalars, torch.stack(list(scalars.values())).tolist()):
                storage.put_scalar(name, value, smoothing_hint=False)

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        """Return the features of the online backbone; see :meth:`forward`."""
        images = ImageList.from_tensors(
            [self._normalize(x["image"]) for x in batched_inputs], self.backbone.size_divisibility
        )
        features = self.backbone(images.tensor)
        return [{level: features[level][i] for level in self.in_features} for i in range(len(batched_inputs))]


def build_pixel_heads(cfg: CfgNode, backbone: Backbone) -> dict[str, Any]:
    """Build dense head, projector and PPM for ``MODEL.PIXPRO.IN_FEATURES`` of a backbone, as TwoBranch's arguments."""
    pixpro = cfg.MODEL.PIXPRO
    if not pixpro.IN_FEATURES and pixpro.INSTANCE.WEIGHT > 0:  # the instance branch alone
        return {"head": None, "projector": None, "ppm": None}
    channels = feature_channels(backbone, pixpro.IN_FEATURES)
    head = None
    if pixpro.HEAD != "none":
        head = build_dense_head(cfg, backbone)
        channels = dict.fromkeys(channels, head.out_channels)
    hidden, out = pixpro.PROJECTOR.HIDDEN_DIM, pixpro.PROJECTOR.OUT_DIM
    build = METHODS[pixpro.METHOD].build_projector
    projector = LevelHeads(lambda width: build(width, hidden, out, pixpro.NORM), channels, pixpro.SHARE_HEADS)
    if not pixpro.PPM.ENABLED:
        return {"head": head, "projector": projector, "ppm": None}
    ppm = LevelHeads(
        lambda width: PixelPropagation(width, pixpro.PPM.NUM_LAYERS, pixpro.PPM.GAMMA, pixpro.NORM),
        dict.fromkeys(channels, out),
        pixpro.SHARE_HEADS,
    )
    return {"head": head, "projector": projector, "ppm": ppm}


def build_instance_branch(cfg: CfgNode, backbone: Backbone) -> InstanceBranch | None:
    """Build the instance branch on the last feature of the backbone, None if its weight is 0."""
    pixpro = cfg.MODEL.PIXPRO
    if pixpro.INSTANCE.WEIGHT <= 0:
        return None
    return InstanceBranch(
        last_feature_channels(backbone), pixpro.PROJECTOR.HIDDEN_DIM, pixpro.PROJECTOR.OUT_DIM,
        pixpro.INSTANCE.LOSS, pixpro.INSTANCE.TEMPERATURE, pixpro.NORM,
    )  # fmt: skip


def check_crop_size(backbone: Backbone, crop_size: int) -> None:
    """Raise a UsageError for a view size that the backbone cannot take."""
    divisor = max(backbone.size_divisibility, 1)
    if crop_size < 1 or crop_size % divisor:
        raise UsageError(
            f"INPUT.PIXPRO.CROP_SIZE is {crop_size}; this backbone needs a positive multiple of {divisor}."
        )
