"""Save and resume the runs of pre-training and of every downstream task."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from ..utils.errors import UsageError
from ..utils.files import write_file
from . import class_names
from .class_names import check_class_names
from .convention import InputConvention
from .folder import LAST, last_name
from .resume import check_fit, common_candidates, newest_readable
from .saving import report_disk_errors, save_checkpoint

logger = logging.getLogger(__name__)


class PixProCheckpointer:
    """Save a run, and resume it from the newest complete checkpoint that all processes can read.

    The class has the interface for saving of detectron2's checkpointers. It does not extend them, because their loading
    runs code from the file, and only warns of missing weights. :func:`.initialize.initialize` loads MODEL.WEIGHTS.
    """

    path_manager = PathManager  # this and get_checkpoint_file are for PeriodicCheckpointer

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        convention: InputConvention | None = None,
        classes: Sequence[str] | None = None,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model: the model, not wrapped for several processes.
            save_dir: folder of the run; "" to save nothing.
            convention: input convention of the model, stored in saved checkpoints.
            classes: names of the model's classes, stored in saved checkpoints; a resumed run must have the same.
            checkpointables: further objects with ``state_dict`` and ``load_state_dict``, by their entry in the file.
        """
        self.model: Any = model
        self.save_dir = save_dir
        self.convention = convention
        self.classes = classes
        self.checkpointables = checkpointables

    def save(self, name: str, **entries: Any) -> None:
        """Write ``save_dir/name.pth`` and mark it as the last checkpoint; never leave a half-written file.

        Only the main process writes.

        Args:
            name: name of the file, without its suffix.
            entries: further entries of the file, such as ``iteration``.

        Raises:
            UsageError: if the disk is full or fails; the previous checkpoint then is still complete.
        """
        if not self.save_dir or not comm.is_main_process():
            return
        data = {"model": self.model.state_dict(), **entries}
        data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        if self.convention is not None:
            data["input"] = self.convention.to_dict()
        if self.classes is not None:
            data[class_names.KEY] = list(self.classes)
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info(f"Saving checkpoint to {path}")
        with report_disk_errors(data, path):
            save_checkpoint(data, path)
            last = os.path.join(self.save_dir, LAST)
            write_file(last, lambda partial: Path(partial).write_text(f"{name}.pth", encoding="utf-8"))

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint that was saved; call it only after a save."""
        return os.path.join(self.save_dir, last_name(self.save_dir))

    def resume(self) -> dict[str, Any] | None:
        """Load the newest readable checkpoint of ``save_dir``; all processes must call this method.

        Returns:
            The entries of the file that are not loaded, ``iteration`` among them; None if no process sees a checkpoint.

        Raises:
            UsageError: if there are checkpoints, but none is readable, or if the newest readable checkpoint does not
                fit the model.
        """
        names = common_candidates(self.save_dir)
        if not names:
            return None
        path, checkpoint = newest_readable(self.save_dir, names, ("model", "iteration", *self.checkpointables))
        logger.info(f"Resuming from {path}, written after iteration {checkpoint['iteration']}.")
        weights = checkpoint.pop("model")
        check_fit(weights, self.model.state_dict(), path)
        check_class_names(checkpoint.pop(class_names.KEY, None), self.classes, path)
        self.model.load_state_dict(weights)
        for key, value in self.checkpointables.items():
            try:
                value.load_state_dict(checkpoint.pop(key))
            except ValueError as error:  # from an optimiser that has other parameter groups
                raise UsageError(
                    f"{path} does not fit this config's {key} ({error}): resume with the config that the run started "
                    "with."
                ) from error
        return checkpoint
