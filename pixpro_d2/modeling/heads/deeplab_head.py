"""DeepLabV3's head for images of any size."""

import math
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects.deeplab import DeepLabV3Head
from torch import Tensor, nn

from .fcn_head import labelled_cross_entropy


class _WindowPool(nn.Module):
    """Average (N, C, h, w) over windows of ``size`` with stride 1, or over whole sides that are shorter."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, [min(pair) for pair in zip(self.size, x.shape[-2:])], stride=1)


@SEM_SEG_HEADS_REGISTRY.register()
class AnySizeDeepLabV3Head(DeepLabV3Head):
    """Compute detectron2's DeepLabV3Head, with the same names of weights, for images of any size.

    detectron2 pools over windows of the size of the training's crops, and raises an error for images whose sides are no
    multiples of them. Its losses need crops that fill whole cells. Both are the same here for other images. The stride
    of the backbone's feature takes the place of COMMON_STRIDE.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        crop, plain = cfg.INPUT.CROP, cfg.clone()
        plain.defrost()
        plain.INPUT.CROP.ENABLED = False  # detectron2 computes the window from COMMON_STRIDE
        super().__init__(plain, input_shape)
        self.common_stride: int = input_shape[self.in_features[0]].stride or cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE
        if crop.ENABLED and crop.TYPE == "absolute":  # other crops have no single size
            height, width = (math.ceil(side / self.common_stride) for side in crop.SIZE)
            self.aspp.convs[-1][0] = _WindowPool((height, width))

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Any]:
        logits = F.interpolate(predictions, scale_factor=self.common_stride, mode="bilinear", align_corners=False)
        logits = logits[..., : targets.shape[-2], : targets.shape[-1]]
        loss = labelled_cross_entropy if self.loss_type == "cross_entropy" else self.loss
        return {"loss_sem_seg": self.loss_weight * loss(logits, targets)}
