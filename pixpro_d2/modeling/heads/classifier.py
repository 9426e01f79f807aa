"""Image classification on the globally pooled last feature of a backbone: the linear evaluation."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.utils.events import get_event_storage
from torch import nn

from ..backbone import bottom_up, forward_with_last, last_feature_channels


class PooledBackbone(nn.Module):
    """A backbone whose last feature map, C5 of a ResNet, is averaged over its pixels; what all classifiers share.

    Of an FPN, the network below it counts.
    """

    def __init__(self, *, backbone, num_classes, pixel_mean, pixel_std):
        """
        Args:
            backbone (Backbone): a detectron2 backbone.
            num_classes (int):
            pixel_mean, pixel_std (list[float]): per channel, of uint8 images.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg):
        return {
            "backbone": build_backbone(cfg),
            "num_classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self):
        """Where the model is, and its inputs are moved to."""
        return self.pixel_mean.device

    @property
    def has_unused_parameters(self):
        """Whether an FPN takes no part in the loss; DistributedDataParallel must know."""
        return bottom_up(self.backbone) is not self.backbone

    def pooled_features(self, batched_inputs):
        """Features (N, C) float32 of a list[dict] with N images of one size; without a graph if nothing in the
        backbone is trained."""
        images = torch.stack([x["image"] for x in batched_inputs]).to(self.device, non_blocking=True)
        images = (images.float() - self.pixel_mean) / self.pixel_std
        trunk = bottom_up(self.backbone)
        trained = any(parameter.requires_grad for parameter in trunk.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            _, last = forward_with_last(trunk, images)
        return last.float().mean(dim=(2, 3))


@META_ARCH_REGISTRY.register()
class LinearClassifier(PooledBackbone):
    """One fully connected layer on the pooled feature; with ``MODEL.BACKBONE.FROZEN`` the linear evaluation.

    The layer starts with PyTorch's default initialisation, as in the official PixPro code (MoCo: normal with
    standard deviation 0.01). The norms of a frozen backbone keep the statistics of its weights, as in MoCo; the
    official PixPro code leaves them in train mode, so that they use, and go on adapting to, the batches of the
    linear evaluation. Without ``FROZEN`` the whole network is fine-tuned.
    """

    @configurable
    def __init__(self, *, metrics_period, **kwargs):
        """
        Args:
            metrics_period (int): iterations between two records of the training accuracy.
            **kwargs: of :class:`PooledBackbone`.
        """
        super().__init__(**kwargs)
        self.metrics_period = metrics_period
        self.fc = nn.Linear(last_feature_channels(self.backbone), self.num_classes)

    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "metrics_period": cfg.SOLVER.METRICS_PERIOD}

    def forward(self, batched_inputs):
        """
        Args:
            batched_inputs: list[dict], one for each image, all of one size, with

                * image: (C, H, W) tensor of values in [0, 255], channels in ``INPUT.FORMAT`` order;
                * category_id (int): in training, in [0, num_classes).

        Returns:
            In training dict[str, Tensor]: ``loss_cls``, the mean cross entropy, 0-d.
            In eval mode list[dict], one for each image: ``scores``, the logits {"linear": (num_classes,)}.
        """
        features = self.pooled_features(batched_inputs)
        # Half precision would save nothing in one layer, whose steps are large.
        with torch.autocast(self.device.type, enabled=False):
            logits = self.fc(features)
        if not self.training:
            return [{"scores": {"linear": x}} for x in logits]
        labels = torch.tensor([x["category_id"] for x in batched_inputs], device=self.device)
        self._record(logits, labels)
        return {"loss_cls": F.cross_entropy(logits, labels)}

    @torch.no_grad()
    def _record(self, logits, labels):
        """Put the batch's top-1 accuracy in per cent into the EventStorage, every metrics_period iterations."""
        storage = get_event_storage()
        if (storage.iter + 1) % self.metrics_period == 0:
            storage.put_scalar("train_top1", 100 * (logits.argmax(dim=1) == labels).float().mean().item())
