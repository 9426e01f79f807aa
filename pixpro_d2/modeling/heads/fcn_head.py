"""The fully convolutional head of the FCN transfer tasks (appendix of MoCo, PixPro section 4)."""

from typing import Any

import fvcore.nn.weight_init as weight_init
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ...data.datasets.semseg import IGNORE_LABEL
from ...utils.errors import UsageError


@SEM_SEG_HEADS_REGISTRY.register()
class FCNHead(nn.Module):
    """Segment by dilated 3x3 convolutions on one feature map, a 1x1 classifier, and bilinear upsampling to the image.

    The head is written for ``SemanticSegmentor``. The papers put two convolutions of 256 channels and dilation 6 on
    res5 at output stride 16 (``RESNETS.RES5_DILATION 2``).
    """

    ignore_value = IGNORE_LABEL  # SemanticSegmentor pads the targets with it

    @configurable
    def __init__(
        self, *, in_feature: str, in_channels: int, stride: int, num_classes: int, num_convs: int, channels: int,
        dilation: int, norm: str, loss_weight: float,
    ) -> None:  # fmt: skip
        """
        Args:
            in_feature: name of the backbone's feature map, of ``in_channels`` channels and ``stride``.
            num_classes: number of classes.
            num_convs, channels, dilation: number, channels and dilation of the 3x3 convolutions.
            norm: detectron2 norm name; a norm follows each 3x3 convolution.
            loss_weight: factor of the loss.
        """
        super().__init__()
        self.in_feature = in_feature
        self.stride = stride
        self.loss_weight = loss_weight
        self.convs = nn.Sequential()
        for i in range(num_convs):
            conv = Conv2d(
                channels if i else in_channels, channels, 3, padding=dilation, dilation=dilation, bias=not norm,
                norm=get_norm(norm, channels), activation=F.relu,
            )  # fmt: skip
            weight_init.c2_msra_fill(conv)
            self.convs.append(conv)
        self.predictor = nn.Conv2d(channels if num_convs else in_channels, num_classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]  # torch types the bias as optional

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        head = cfg.MODEL.SEM_SEG_HEAD
        if len(head.IN_FEATURES) != 1 or head.IN_FEATURES[0] not in input_shape:
            raise UsageError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES is {list(head.IN_FEATURES)}; the FCNHead takes one of the "
                f"backbone's features {', '.join(input_shape)}."
            )
        (in_feature,) = head.IN_FEATURES
        return {
            "in_feature": in_feature,
            "in_channels": input_shape[in_feature].channels,
            "stride": input_shape[in_feature].stride,
            "num_classes": head.NUM_CLASSES,
            "num_convs": head.NUM_CONVS,
            "channels": head.CONVS_DIM,
            "dilation": head.DILATION,
            "norm": head.NORM,
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return (None, losses) in training, and (logits, {}) in eval mode.

        Args:
            features: with (N, in_channels, h, w) under ``in_feature``.
            targets: (N, H, W) class numbers; h = ceil(H / stride).

        Returns:
            In training (None, {"loss_sem_seg": mean cross-entropy of the labelled pixels}). In eval mode
            (logits (N, num_classes, h * stride, w * stride), {}); ``SemanticSegmentor`` crops the logits to the image.
        """
        logits = self.predictor(self.convs(features[self.in_feature]))
        logits = F.interpolate(logits.float(), scale_factor=self.stride, mode="bilinear", align_corners=False)
        if not self.training:
            return logits, {}
        assert targets is not None  # SemanticSegmentor passes targets in training
        return None, {"loss_sem_seg": self.loss_weight * labelled_cross_entropy(logits, targets)}


def labelled_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the labelled pixels, 0-d; 0 without a labelled pixel, where PyTorch gives NaN.

    Args:
        logits: (N, num_classes, h, w) of h >= H and w >= W; what is outside the targets does not count.
        targets: (N, H, W) class numbers; IGNORE_LABEL for pixels without a label.
    """
    height, width = targets.shape[-2:]
    loss = F.cross_entropy(logits[..., :height, :width], targets, ignore_index=IGNORE_LABEL, reduction="sum")
    return loss / (targets != IGNORE_LABEL).sum().clamp(min=1)
