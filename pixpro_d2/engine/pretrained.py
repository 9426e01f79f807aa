"""The pre-training model that a tool looks at, with the weights of a file, and what in it is random all the same."""

import logging
from dataclasses import dataclass

import torch
from detectron2.modeling import build_model
from torch import nn

from ..utils.errors import UsageError
from .trainer import Trainer

logger = logging.getLogger(__name__)

PARTS = ("backbone", "pyramid", "head", "projector", "ppm")  # of the online branch, as far as pixels are compared


@dataclass(frozen=True)
class Pretrained:
    """A pre-training model.

    * model;
    * path (str): of the file that it was loaded from, "" for random weights;
    * random (tuple[str]): PARTS that are not in the file, or not all; none without a file;
    * copied (bool): whether the target branch, not in the file, is a copy of the online one.
    """

    model: nn.Module
    path: str = ""
    random: tuple = ()
    copied: bool = False

    @property
    def note(self):
        """How pictures call it, such as "Weights x.pth, with random projector"."""
        if not self.path:
            return "Random weights"
        random = f", with random {' and '.join(self.random)}" if self.random else ""
        return f"Weights {self.path}{random}{', no target branch in the file' if self.copied else ''}"

    def require(self, parts, what):
        """Refuse to show ``what`` if some of ``parts`` are random under the name of a file.

        Raises:
            UsageError: naming them.
        """
        lacking = [part for part in parts if part in self.random]
        if lacking:
            raise UsageError(
                f"{self.path} has no {' and no '.join(lacking)} that fits this config, of which {what} would be "
                "random: take the checkpoint of a pre-training, with the config that it was trained with."
            )


def load_pretrained(cfg, weights, seed):
    """The model of a config with the weights of a file.

    A file without a target branch, such as a converted backbone, leaves the target an exact copy of the online branch,
    as at the start of a training from it.

    Args:
        cfg (CfgNode): of a pre-training.
        weights (str): file; if empty, MODEL.WEIGHTS, and if this is empty too, all weights are random.
        seed (int): of random weights.

    Returns:
        Pretrained:

    Raises:
        UsageError: for a file that does not suit the model, or that was trained with another input.
    """
    torch.manual_seed(seed)
    model = build_model(cfg)
    path = weights or cfg.MODEL.WEIGHTS
    if not path:
        return Pretrained(model)
    missing = _load(Trainer.build_checkpointer(cfg, model), path)
    copied = _complete_target(model, missing)
    found = {_part(name) for name in missing}
    return Pretrained(model, path, tuple(part for part in PARTS if part in found), copied)


def _complete_target(model, missing):
    """Copy what the target lacks from the online branch; whether that is all of it."""
    absent = {id(parameter) for name, parameter in model.named_parameters() if name in missing}
    lacking = [
        (online, target)
        for online, target in model.momentum_pairs()
        if any(id(parameter) in absent for parameter in target.parameters())
    ]
    for online, target in lacking:
        target.load_state_dict(online.state_dict())
    return len(lacking) == len(model.momentum_pairs())


def _load(checkpointer, path):
    """Load MODEL.WEIGHTS; names (set) of the model's parameters that are not in the file."""
    missing = set()
    model = checkpointer.model
    handle = model.register_load_state_dict_post_hook(lambda _, keys: missing.update(keys.missing_keys))
    try:
        checkpointer.resume_or_load(path, resume=False)
    finally:
        handle.remove()
    return missing & dict(model.named_parameters()).keys()


def _part(name):
    """What part of the model a parameter belongs to: its top-level module, or the pyramid above a backbone."""
    return "pyramid" if name.startswith("backbone.fpn_") else name.split(".")[0]
