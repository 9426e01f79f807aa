"""DeepLabV3's head for images of any size."""

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
    multiples of them. Its losses need crops that fill whole cells. Both are the same here for other images.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)
        if self.aspp.pool_kernel_size is not None:
            self.aspp.convs[-1][0] = _WindowPool(self.aspp.pool_kernel_size)
            self.aspp.pool_kernel_size = None  # only its check reads it

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Any]:
        if self.loss_type != "cross_entropy":
            return super().losses(predictions, targets)
        logits = F.interpolate(predictions, scale_factor=self.common_stride, mode="bilinear", align_corners=False)
        return {"loss_sem_seg": self.loss_weight * labelled_cross_entropy(logits, targets)}
