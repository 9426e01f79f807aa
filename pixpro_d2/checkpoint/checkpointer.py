"""The checkpointer of pre-training and of every downstream task."""

import os
import pickle

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

from ..errors import UsageError
from .transfer import fit, trunk_names

TARGET_PREFIX = "target_"


class PixProCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, which also

    * loads the checkpoint of a pre-training run into any detector, and says in one line what was loaded;
    * makes MODEL.WEIGHTS that do not cover the backbone an error instead of a warning;
    * writes a file under a temporary name first, so that a crash leaves the previous one.
    """

    def __init__(self, model, save_dir="", *, allow_partial=False, **kwargs):
        """
        Args:
            model, save_dir, kwargs: as for detectron2's DetectionCheckpointer.
            allow_partial (bool): accept MODEL.WEIGHTS that cover only a part of the backbone.
        """
        super().__init__(model, save_dir, **kwargs)
        self.allow_partial = allow_partial
        self._initializing_from = None

    def load(self, path, checkpointables=None):
        """As detectron2's; with ``checkpointables=[]`` (MODEL.WEIGHTS) the weights may be another model's.

        Raises:
            UsageError: for a missing or damaged file, or weights that do not cover the backbone.
        """
        if path and "://" not in path and not os.path.isfile(path):
            raise UsageError(f"There is no checkpoint {os.path.abspath(path)}.")
        self._initializing_from = path if checkpointables == [] else None
        return super().load(path, checkpointables)

    def save(self, name, **kwargs):
        """Write ``save_dir/name.pth`` and mark it as the last checkpoint; never leaves a half-written file."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), **kwargs}
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        torch.save(data, f"{path}.tmp")
        os.replace(f"{path}.tmp", path)
        self.tag_last_checkpoint(f"{name}.pth")

    def _load_file(self, filename):
        try:
            return super()._load_file(filename)
        except (EOFError, RuntimeError, pickle.UnpicklingError, UnicodeDecodeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UsageError(f"{filename} is not a readable checkpoint ({reason}).") from error

    def _load_model(self, checkpoint):
        if self._initializing_from is not None:
            checkpoint["model"] = self._fit(checkpoint, self._initializing_from)
            checkpoint["matching_heuristics"] = False
        return super()._load_model(checkpoint)

    def _fit(self, checkpoint, path):
        """The checkpoint's weights under this model's names; checks and logs how much of the backbone they cover."""
        own = self.model.state_dict()
        state = checkpoint["model"]
        self._convert_ndarray_to_tensor(state)
        if checkpoint.get("matching_heuristics", False):
            # Suffix matching must not see the target branch: it refuses names that fit twice.
            online = {name: value for name, value in own.items() if not name.startswith(TARGET_PREFIX)}
            c2 = checkpoint.get("__author__") == "Caffe2"
            state = align_and_update_state_dicts(online, state, c2_conversion=c2)
        transfer = fit({name.removeprefix("module."): value for name, value in state.items()}, own)
        self._report(path, own, transfer, list(state))
        return transfer.state

    def _report(self, path, own, transfer, names):
        trunk = trunk_names(own)
        loaded = [name for name in trunk if name in transfer.state]
        if not loaded and trunk:
            raise UsageError(
                f"MODEL.WEIGHTS {path} holds no weight of this model's backbone: its first names are "
                f"{', '.join(names[:3])}, the model expects {', '.join(trunk[:3])}."
            )
        if len(loaded) < len(trunk) and not self.allow_partial:
            missing = [name for name in trunk if name not in transfer.state]
            why = "has another shape there" if missing[0] in transfer.misshapen else "is not in it"
            raise UsageError(
                f"MODEL.WEIGHTS {path} covers only {len(loaded)} of the backbone's {len(trunk)} weights ({missing[0]} "
                f"{why}): use the depth and options it was trained with, or set MODEL.ALLOW_PARTIAL_WEIGHTS True."
            )
        convolutions = [name for name in trunk if own[name].ndim == 4]
        left_out = ", ".join(f"{module} ({count})" for module, count in transfer.left_out.items()) or "nothing"
        self.logger.info(
            f"Backbone: {len([name for name in convolutions if name in transfer.state])} of {len(convolutions)} "
            f"convolutions, {len(loaded)} of {len(trunk)} weights loaded from {path}. Tensors left out: {left_out}."
        )
