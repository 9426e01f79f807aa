"""Load the pre-training model that a tool looks at, and record which of its parts stay random."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from ..config import with_values
from ..utils.errors import UsageError
from .configuration.registered import check_registered
from .trainer import Trainer

if TYPE_CHECKING:
    from ..modeling.pretrain.pixpro import PixPro

logger = logging.getLogger(__name__)

PARTS = ("backbone", "pyramid", "head", "projector", "ppm", "prototypes")  # of the online branch, to compare pixels


@dataclass(frozen=True)
class Pretrained:
    """Hold a pre-training model and the origin of its weights.

    Attributes:
        model: the model.
        path: path of the loaded file, "" for random weights.
        random: those of PARTS that the file lacks, at least partly; empty without a file.
        copied: whether the target branch, missing in the file, is a copy of the online branch.
    """

    model: "PixPro"
    path: str = ""
    random: tuple[str, ...] = ()
    copied: bool = False

    @property
    def note(self) -> str:
        """Return the description for pictures, such as "Weights x.pth, with random projector"."""
        if not self.path:
            return "Random weights"
        random = f", with random {' and '.join(self.random)}" if self.random else ""
        return f"Weights {self.path}{random}{', no target branch in the file' if self.copied else ''}"

    def require(self, parts: Collection[str], what: str) -> None:
        """Check that the file holds all of ``parts``, which ``what`` shows; random weights without a file pass.

        Raises:
            UsageError: with the names of the missing parts.
        """
        lacking = [part for part in parts if part in self.random]
        if lacking:
            raise UsageError(
                f"{self.path} has no {' and no '.join(lacking)} that fits this config, of which {what} would be "
                "random: take the checkpoint of a pre-training, with the config that it was trained with."
            )


def load_pretrained(cfg: CfgNode, weights: str, seed: int) -> Pretrained:
    """Return the model of a config with the weights of a file.

    If the file has no target branch, as a converted backbone, the target becomes an exact copy of the online branch.
    A training from the file starts in the same way.

    Args:
        cfg: config of a pre-training.
        weights: path of the file; "" for MODEL.WEIGHTS. If MODEL.WEIGHTS is empty too, all weights are random.
        seed: seed of random weights.

    Raises:
        UsageError: for a part that is not registered, or a file that does not suit the model or had another input.
    """
    check_registered(cfg)
    torch.manual_seed(seed)
    # Only training needs the teacher, whose files may be elsewhere.
    model = build_model(with_values(cfg, {"MODEL.PIXPRO.DISTILL.WEIGHT": 0.0}))
    path = weights or cfg.MODEL.WEIGHTS
    if not path:
        return Pretrained(model)
    missing = Trainer.initialize(cfg, model, path).missing
    copied = _complete_target(model, missing)
    found = {_part(name) for name in missing}
    return Pretrained(model, path, tuple(part for part in PARTS if part in found), copied)


def _complete_target(model: "PixPro", missing: Collection[str]) -> bool:
    """Copy the missing modules of the target from the online branch; return whether all of them were missing."""
    absent = {id(parameter) for name, parameter in model.named_parameters() if name in missing}
    lacking = [
        (online, target)
        for online, target in model.momentum_pairs()
        if any(id(parameter) in absent for parameter in target.parameters())
    ]
    for online, target in lacking:
        target.load_state_dict(online.state_dict())
    return len(lacking) == len(model.momentum_pairs())


def _part(name: str) -> str:
    """Return the part of the model that a parameter belongs to: its top-level module, pyramid or prototypes."""
    special = {"backbone.fpn_": "pyramid", "backbone.simfp_": "pyramid", "method.prototypes.": "prototypes"}
    return next((part for start, part in special.items() if name.startswith(start)), name.split(".")[0])
