"""A fixed feature extractor: fine-tuning "without fine-tuning the backbone"."""

from detectron2.layers import FrozenBatchNorm2d

from .backbone import bottom_up


def freeze_trunk(model):
    """Fix the feature extractor of ``model`` in place: no gradients, and norms that keep their statistics.

    It is what any checkpoint for the model must cover (:func:`pixpro_d2.checkpoint.transfer.trunk_names`): the
    network below an FPN, and in a C4 detector also res5 of the ROI head, without the norm behind it. An FPN
    is trained, because a checkpoint need not have one.

    Args:
        model (nn.Module): with a ``backbone``; its batch norms become FrozenBatchNorm2d under the same names.
    """
    trunk = [bottom_up(model.backbone)]
    if hasattr(getattr(model, "roi_heads", None), "res5"):
        trunk += [block for name, block in model.roi_heads.res5.named_children() if name != "norm"]
    for module in trunk:
        module.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(module)
