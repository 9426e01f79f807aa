"""The checkpointer of pre-training and of every downstream task."""

import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from ..utils.errors import UsageError
from ..utils.files import write_file
from . import class_names
from .class_names import check_class_names
from .convention import InputConvention, as_options
from .coverage import check_complete, check_trunk, describe_transfer
from .folder import LAST
from .formats import Source, recognise
from .reading import check_exists, read_checkpoint
from .resume import check_fit, common_candidates, newest_readable
from .saving import report_disk_errors, save_checkpoint
from .tensors import check_tensors
from .transfer import fit, match_suffixes


class PixProCheckpointer(DetectionCheckpointer):
    """Extend detectron2's checkpointer.

    * Read files in any format of :mod:`.formats`, without running code from the files.
    * Load the checkpoint of a pre-training run into any detector, and log one line on the loaded weights.
    * Raise an error instead of a warning if MODEL.WEIGHTS do not cover the backbone, or expect another input.
    * Resume from the newest complete checkpoint that all processes can read, if the checkpoint fits the model.
    * Write a file under a temporary name first, so that a crash leaves the previous file.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        allow_partial: bool = False,
        require_trunk: bool = False,
        complete: bool = False,
        convention: InputConvention | None = None,
        classes: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            model, save_dir, kwargs: see detectron2's DetectionCheckpointer.
            allow_partial: accept MODEL.WEIGHTS whose backbone matches the model's only in part.
            require_trunk: refuse such MODEL.WEIGHTS despite ``allow_partial``, for a frozen feature extractor.
            complete: refuse MODEL.WEIGHTS that leave any weight of the model random, for an evaluation.
            convention: input convention of the model. It is stored in saved checkpoints; MODEL.WEIGHTS with another
                convention are an error.
            classes: names of the model's classes. They are stored in saved checkpoints; a run or an evaluation with
                other classes is an error.
        """
        super().__init__(model, save_dir, **kwargs)
        self.allow_partial = allow_partial
        self.require_trunk = require_trunk
        self.complete = complete
        self.convention = convention
        self.classes = classes
        self._initializing_from: str | None = None

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a file as detectron2 does; with ``checkpointables=[]`` (MODEL.WEIGHTS), accept another model's weights.

        Raises:
            UsageError: if the file is missing, damaged or unsafe, if the address cannot be reached, or if the weights
                do not fit the model.
        """
        self._initializing_from = path if checkpointables == [] else None
        if path:
            path = self._download(path) if "://" in path else path
            check_exists(path)
        return super().load(path, checkpointables)

    def _download(self, address: str) -> str:
        """Return the path of detectron2's local copy of an address."""
        try:
            return self.path_manager.get_local_path(address)
        except (
            OSError,
            ValueError,
            RuntimeError,
            HTTPException,
        ) as error:  # network, address, detectron2's catalog
            raise UsageError(
                f"MODEL.WEIGHTS {address} cannot be downloaded ({error}): check the address and the network, or fetch "
                "the file by other means and name its path."
            ) from error

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``save_dir/name.pth`` and mark it as the last checkpoint; never leave a half-written file.

        Raises:
            UsageError: if the disk is full or fails; the previous checkpoint then is still complete.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), **kwargs}
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        if self.convention is not None:
            data["input"] = self.convention.to_dict()
        if self.classes is not None:
            data[class_names.KEY] = list(self.classes)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with report_disk_errors(data, path):
            save_checkpoint(data, path)
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint to ``last_checkpoint``, once the checkpoint is on the disk."""
        path = os.path.join(self.save_dir, LAST)
        write_file(path, lambda partial: Path(partial).write_text(last_filename_basename, encoding="utf-8"))

    def has_checkpoint(self) -> bool:
        """Return whether any process sees a checkpoint to resume from; all processes must call this method."""
        return bool(common_candidates(self.save_dir))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the newest readable checkpoint of ``save_dir``, or load MODEL.WEIGHTS if there is none.

        All processes must call this method.

        Args:
            path: MODEL.WEIGHTS; "" for none.
            resume: if False, load MODEL.WEIGHTS even if there is a checkpoint.

        Returns:
            The other entries of the file; for a run's checkpoint, ``iteration`` is one of them.

        Raises:
            UsageError: if there are checkpoints, but none is readable, or if the newest readable checkpoint does not
                fit the model; and as :meth:`load`.
        """
        if resume and self.has_checkpoint():
            return self._resume()
        return self.load(path, checkpointables=[])

    def _resume(self) -> dict[str, Any]:
        path, checkpoint = newest_readable(self.save_dir, ("model", "iteration", *self.checkpointables))
        self.logger.info(f"Resuming from {path}, written after iteration {checkpoint['iteration']}.")
        check_fit(self._load_model(checkpoint), path)
        check_class_names(checkpoint.pop(class_names.KEY, None), self.classes, path)
        for key, value in self.checkpointables.items():
            try:
                value.load_state_dict(checkpoint.pop(key))
            except ValueError as error:  # from an optimiser that has other parameter groups
                raise UsageError(
                    f"{path} does not fit this config's {key} ({error}): resume with the config that the run started "
                    "with."
                ) from error
        return checkpoint

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename)
        if self._initializing_from is not None:
            if self.complete:
                check_class_names(checkpoint.get(class_names.KEY), self.classes, filename)
            return {"model": self._fit(recognise(checkpoint, filename), self._initializing_from)}
        if "model" not in checkpoint:
            raise UsageError(f"{filename} is no checkpoint of a run: give such weights as MODEL.WEIGHTS.")
        return checkpoint

    def _fit(self, source: Source, path: str) -> dict[str, Tensor]:
        """Return the weights of a file under this model's names; check and log how much of the model they cover."""
        own = self.model.state_dict()
        state = match_suffixes(source.state, own) if source.match_suffixes else source.state
        transfer = fit(state, own)
        self._check_convention(source, path)  # first, because its error names the values of the keys
        check_trunk(path, source, own, transfer, self.allow_partial, self.require_trunk)
        check_tensors(transfer.state, path)
        if self.complete:
            check_complete(path, source, own, transfer)
        self.logger.info(describe_transfer(path, source, own, transfer))
        return transfer.state

    def _check_convention(self, source: Source, path: str) -> None:
        theirs, ours = source.convention, self.convention
        keys = theirs.keys_to_set(ours) if theirs and ours else {}
        if keys:
            raise UsageError(
                f"MODEL.WEIGHTS {path} was trained with {theirs}, unlike this config: set {as_options(keys)}."
            )
