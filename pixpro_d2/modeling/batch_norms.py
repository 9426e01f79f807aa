"""Replace the batch norms of a built network, also those of timm that include an activation."""

from functools import cache
from typing import Any

from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from .float32_parts import Float32SyncBN

KEPT = "BN"
CLASSES = {
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": Float32SyncBN,
    "naiveSyncBN_N": Float32SyncBN,
    "FrozenBN": FrozenBatchNorm2d,
}


def convert_batch_norms(module: nn.Module, norm: str) -> None:
    """Replace the batch norms below ``module`` in place; their values, names and activations stay.

    timm's BatchNormAct2d is a batch norm with an activation. The converters of PyTorch and detectron2 lose the
    activation, and timm's do not know detectron2's norms.

    Args:
        module: any network; other norms than batch norms stay.
        norm: ``BN``, which changes nothing, or a key of CLASSES.
    """
    if norm == KEPT:
        return
    options = {"stats_mode": "N"} if norm == "naiveSyncBN_N" else {}
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
            module.add_module(name, _converted(child, CLASSES[norm], options))
        else:
            convert_batch_norms(child, norm)


def _converted(old: Any, norm_class: Any, options: dict[str, Any]) -> nn.Module:
    """Return a norm of ``norm_class`` with the values of the batch norm ``old``, and its activation if it has one."""
    has_activation = hasattr(old, "act")
    new = (_with_activation(norm_class) if has_activation else norm_class)(old.num_features, eps=old.eps, **options)
    if has_activation:
        new.drop, new.act = old.drop, old.act
    if isinstance(new, nn.modules.batchnorm._BatchNorm):
        new.momentum = old.momentum
    place = next(iter(old.state_dict().values()), None)
    if place is not None:
        new.to(place.device)
    new.load_state_dict(old.state_dict(), strict=False)  # a frozen norm counts no batches
    return new.train(old.training)


@cache
def _with_activation(norm_class: Any) -> Any:
    """Return the class of norms that end, like timm's BatchNormAct2d, in the modules ``drop`` and ``act``."""

    class NormAct(norm_class):
        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.drop(super().forward(x)))

    NormAct.__name__ = NormAct.__qualname__ = f"{norm_class.__name__}Act"
    return NormAct
