"""Keep boxes and statistics in float32 where detectron2 rounds them to bfloat16 under autocast."""

import torch
from detectron2.layers import NaiveSyncBatchNorm, ROIAlign
from detectron2.modeling.box_regression import Box2BoxTransformLinear
from torch import Tensor, nn
from torchvision.ops import roi_align


class Float32ROIAlign(ROIAlign):
    """Pool at the exact boxes; detectron2 gives them the type of the features.

    A corner of a box has 8 bits in bfloat16, so it moves by up to 2 pixels above 512. An evaluation is in float32 and
    would pool elsewhere.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool features (N, C, H, W) at boxes (R, 5) of the image's index and two corners, to (R, C, *output_size)."""
        if not torch.is_autocast_enabled(input.device.type):
            return super().forward(input, rois)
        # torchvision computes in float32 under autocast, and returns the type of the features.
        place = self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        return roi_align(input, rois.float(), *place)


class Float32SyncBN(NaiveSyncBatchNorm):
    """Compute the statistics in float32; detectron2 does so for float16 only.

    In bfloat16 the difference E[x^2] - E[x]^2 of a channel of mean 5 and variance 0.25 can be 0.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).to(input.dtype)


class Float32BoxTransform(Box2BoxTransformLinear):
    """Apply the deltas of FCOS in float32; detectron2 gives the anchors the type of the deltas."""

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        return super().apply_deltas(deltas.float(), boxes)


_CLASSES: dict[type, type] = {ROIAlign: Float32ROIAlign, NaiveSyncBatchNorm: Float32SyncBN}


def keep_float32(model: nn.Module) -> None:
    """Give the modules of a built model that detectron2 rounds the classes of this file, in place."""
    for module in model.modules():
        if type(module) in _CLASSES:
            module.__class__ = _CLASSES[type(module)]
