"""A fixed feature extractor: fine-tuning "without fine-tuning the backbone"."""

from typing import Any

from torch import nn

from .backbone import bottom_up
from .batch_norms import convert_batch_norms


def freeze_trunk(model: nn.Module) -> None:
    """Freeze the feature extractor of ``model`` in place: no gradients, and norms that keep their statistics.

    The feature extractor is the network below an FPN. In a C4 detector, res5 of the ROI head belongs to it too, without
    the norm behind res5. Any checkpoint for the model must cover the same modules
    (:func:`pixpro_d2.checkpoint.transfer.trunk_names`). An FPN is trained, because a checkpoint may lack one.

    Args:
        model: with a ``backbone``; its batch norms become FrozenBatchNorm2d under the same names.
    """
    trunk = [bottom_up(model.backbone)]
    roi_heads: Any = getattr(model, "roi_heads", None)
    if hasattr(roi_heads, "res5"):
        trunk += [block for name, block in roi_heads.res5.named_children() if name != "norm"]
    for module in trunk:
        module.requires_grad_(False)
        convert_batch_norms(module, "FrozenBN")
