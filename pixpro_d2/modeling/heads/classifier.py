"""Image classification on the globally pooled last feature of a backbone: the linear evaluation."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..backbone import bottom_up, forward_with_last, last_feature_channels


class PooledBackbone(nn.Module):
    """Average a backbone's last feature map, C5 of a ResNet, over its pixels; the base of all classifiers.

    With an FPN, the last feature map is the last one of the network below the FPN.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, *, backbone: Backbone, num_classes: int, pixel_mean: list[float], pixel_std: list[float]
    ) -> None:
        """
        Args:
            backbone: a detectron2 backbone.
            num_classes: number of classes.
            pixel_mean, pixel_std: per channel, of uint8 images.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Return the model's device, to which its inputs are moved."""
        return self.pixel_mean.device

    @property
    def has_unused_parameters(self) -> bool:
        """Return whether the backbone has an FPN, which the loss does not use; DistributedDataParallel must know."""
        return bottom_up(self.backbone) is not self.backbone

    def pooled_features(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Return features (N, C) float32 of N images of one size; without a graph if the whole backbone is frozen."""
        # The loader pins each image; a batch made of them on the CPU would not be pinned, and its copy would wait.
        images = torch.stack([x["image"].to(self.device, non_blocking=True) for x in batched_inputs])
        images = (images.float() - self.pixel_mean) / self.pixel_std
        trunk = bottom_up(self.backbone)
        trained = any(parameter.requires_grad for parameter in trunk.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            _, last = forward_with_last(trunk, images)
        return last.float().mean(dim=(2, 3))


@META_ARCH_REGISTRY.register()
class LinearClassifier(PooledBackbone):
    """Classify by one fully connected layer on the pooled feature.

    With ``MODEL.BACKBONE.FROZEN`` the training is the linear evaluation; otherwise the whole network is fine-tuned.
    The layer starts with PyTorch's default initialisation, as in the official PixPro code (MoCo: normal with
    standard deviation 0.01). The norms of a frozen backbone keep the statistics of its weights, as in MoCo. The
    official PixPro code leaves the norms in train mode: they use the batches of the linear evaluation, and adapt.
    """

    @configurable
    def __init__(self, *, metrics_period: int, **kwargs: Any) -> None:
        """
        Args:
            metrics_period: iterations between two records of the training accuracy.
            **kwargs: arguments of :class:`PooledBackbone`.
        """
        super().__init__(**kwargs)
        self.metrics_period = metrics_period
        self.fc = nn.Linear(last_feature_channels(self.backbone), self.num_classes)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {**super().from_config(cfg), "metrics_period": cfg.SOLVER.METRICS_PERIOD}

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Return the loss in training, and the logits of each image in eval mode.

        Args:
            batched_inputs: one dict for each image, all images of one size, with

                * image: (C, H, W) tensor of values in [0, 255], channels in ``INPUT.FORMAT`` order;
                * category_id: in training, an int in [0, num_classes).

        Returns:
            In training a dict with ``loss_cls``, the mean cross entropy, 0-d.
            In eval mode one dict for each image with ``scores``, the logits {"linear": (num_classes,)}.
        """
        features = self.pooled_features(batched_inputs)
        # The layer is small, so half precision would save nothing; and its steps are large.
        with torch.autocast(self.device.type, enabled=False):
            logits = self.fc(features)
        if not self.training:
            return [{"scores": {"linear": x}} for x in logits]
        labels = torch.tensor([x["category_id"] for x in batched_inputs]).to(self.device, non_blocking=True)
        self._record(logits, labels)
        return {"loss_cls": F.cross_entropy(logits, labels)}

    @torch.no_grad()
    def _record(self, logits: Tensor, labels: Tensor) -> None:
        """Put the batch's top-1 accuracy in per cent into the EventStorage, every metrics_period iterations."""
        storage = get_event_storage()
        if (storage.iter + 1) % self.metrics_period == 0:
            storage.put_scalar("train_top1", 100 * (logits.argmax(dim=1) == labels).float().mean().item())
