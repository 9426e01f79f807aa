"""The checkpointer of pre-training and of every downstream task."""

import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..errors import UsageError
from . import class_names
from .class_names import check_class_names
from .convention import InputConvention, as_options
from .coverage import check_complete, check_trunk, describe_transfer
from .folder import LAST
from .formats import recognise
from .reading import check_exists, read_checkpoint
from .resume import check_fit, common_candidates, newest_readable
from .saving import disk_faults_explained, save_checkpoint
from .tensors import check_tensors
from .transfer import fit, match_suffixes
from .writing import write_file


class PixProCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, which also

    * reads files without running code from them, in any format of :mod:`.formats`;
    * loads the checkpoint of a pre-training run into any detector, and says in one line what was loaded;
    * makes MODEL.WEIGHTS that do not cover the backbone, or expect another input, an error instead of a warning;
    * resumes from the newest checkpoint that is whole, as all processes see it, and from none that does not fit;
    * writes a file under a temporary name first, so that a crash leaves the previous one.
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
        **kwargs,
    ):
        """
        Args:
            model, save_dir, kwargs: as for detectron2's DetectionCheckpointer.
            allow_partial: accept MODEL.WEIGHTS whose backbone is the model's only in part.
            require_trunk: for a frozen feature extractor: refuse such MODEL.WEIGHTS, whatever ``allow_partial``.
            complete: for an evaluation: refuse MODEL.WEIGHTS that leave any weight of the model random.
            convention: of the model; stored in what is saved, and MODEL.WEIGHTS of another one are an error.
            classes: names of the model's classes; stored too, and a run or an evaluation with others is an error.
        """
        super().__init__(model, save_dir, **kwargs)
        self.allow_partial = allow_partial
        self.require_trunk = require_trunk
        self.complete = complete
        self.convention = convention
        self.classes = classes
        self._initializing_from = None

    def load(self, path, checkpointables=None):
        """As detectron2's; with ``checkpointables=[]`` (MODEL.WEIGHTS) the weights may be another model's.

        Raises:
            UsageError: for a file that is missing, damaged or unsafe, an address that cannot be reached, or weights
                that do not suit the model.
        """
        self._initializing_from = path if checkpointables == [] else None
        if path:
            path = self._download(path) if "://" in path else path
            check_exists(path)
        return super().load(path, checkpointables)

    def _download(self, address):
        """Return the path of the local copy of an address, which detectron2 keeps."""
        try:
            return self.path_manager.get_local_path(address)
        except (OSError, ValueError, RuntimeError, HTTPException) as error:  # network, address, detectron2's catalog
            raise UsageError(
                f"MODEL.WEIGHTS {address} cannot be downloaded ({error}): check the address and the network, or fetch "
                "the file by other means and name its path."
            ) from error

    def save(self, name, **kwargs):
        """Write ``save_dir/name.pth`` and mark it as the last checkpoint; never leaves a half-written file.

        Raises:
            UsageError: if the disk is full or fails; the checkpoint before is still whole then.
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
        with disk_faults_explained(data, path):
            save_checkpoint(data, path)
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename):
        """Name the last checkpoint in ``last_checkpoint``, once it is on the disk."""
        path = os.path.join(self.save_dir, LAST)
        write_file(path, lambda partial: Path(partial).write_text(last_filename_basename, encoding="utf-8"))

    def has_checkpoint(self):
        """Whether any process sees a checkpoint to resume from; all must call it."""
        return bool(common_candidates(self.save_dir))

    def resume_or_load(self, path, *, resume=True):
        """Go on from the newest readable checkpoint of ``save_dir``, or if there is none load MODEL.WEIGHTS.

        All processes must call it.

        Args:
            path (str): MODEL.WEIGHTS; "" for none.
            resume (bool): False: load MODEL.WEIGHTS whatever there is.

        Returns:
            dict: what else the file holds; of a run's checkpoint ``iteration``.

        Raises:
            UsageError: if no checkpoint that is there can be read, the newest that can does not fit the model, or as
                for :meth:`load`.
        """
        if resume and self.has_checkpoint():
            return self._resume()
        return self.load(path, checkpointables=[])

    def _resume(self):
        path, checkpoint = newest_readable(self.save_dir, ("model", "iteration", *self.checkpointables))
        self.logger.info(f"Resuming from {path}, written after iteration {checkpoint['iteration']}.")
        check_fit(self._load_model(checkpoint), path)
        check_class_names(checkpoint.pop(class_names.KEY, None), self.classes, path)
        for key, value in self.checkpointables.items():
            try:
                value.load_state_dict(checkpoint.pop(key))
            except ValueError as error:  # an optimiser's, of groups of parameters that are not its own
                raise UsageError(
                    f"{path} does not fit this config's {key} ({error}): resume with the config that the run began "
                    "with."
                ) from error
        return checkpoint

    def _load_file(self, filename):
        checkpoint = read_checkpoint(filename)
        if self._initializing_from is not None:
            if self.complete:
                check_class_names(checkpoint.get(class_names.KEY), self.classes, filename)
            return {"model": self._fit(recognise(checkpoint, filename))}
        if "model" not in checkpoint:
            raise UsageError(f"{filename} is no checkpoint of a run: give such weights as MODEL.WEIGHTS.")
        return checkpoint

    def _fit(self, source):
        """Return the weights of a file under this model's names; check and log how much of the model they cover."""
        own = self.model.state_dict()
        state = match_suffixes(source.state, own) if source.match_suffixes else source.state
        transfer = fit(state, own)
        path = self._initializing_from
        self._check_convention(source)  # first, as it knows the values of the keys
        check_trunk(path, source, own, transfer, self.allow_partial, self.require_trunk)
        check_tensors(transfer.state, path)
        if self.complete:
            check_complete(path, source, own, transfer)
        self.logger.info(describe_transfer(path, source, own, transfer))
        return transfer.state

    def _check_convention(self, source):
        theirs, ours = source.convention, self.convention
        keys = theirs.keys_to_set(ours) if theirs and ours else {}
        if keys:
            raise UsageError(
                f"MODEL.WEIGHTS {self._initializing_from} was trained with {theirs}, unlike this config: set "
                f"{as_options(keys)}."
            )
