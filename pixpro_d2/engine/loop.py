"""The training step, of pre-training and of every downstream task."""

import logging
import math
import os
import time
from contextlib import nullcontext

import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from ..checkpoint.saving import dump
from ..checkpoint.writing import write_file
from .loss_window import LossWindow, mean_losses
from .step_guard import StepGuard

logger = logging.getLogger(__name__)


class TrainLoop(TrainerBase):
    """What detectron2's SimpleTrainer and AMPTrainer do, with either half precision, and reading the losses
    from the device now and then instead of in every iteration.

    The values that are recorded are means over the iterations since the last reading. Steps whose gradients are not
    finite are left out; with too many in a row the run stops.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        amp_dtype=None,
        accumulation_steps=1,
        read_at=lambda iteration: True,
        max_skipped=1,
        folder=".",
        asked_to_stop=lambda: False,
    ):
        """
        Args:
            model (nn.Module): returns a dict of losses, or one loss, for a batch.
            data_loader (Iterable): endless.
            optimizer (torch.optim.Optimizer):
            amp_dtype (torch.dtype or None): autocast to it; float16 scales the loss.
            accumulation_steps (int): equal parts that a batch is computed in, one after the other. The gradient is the
                mean of theirs: that of the whole batch where the loss is a mean over all images and no norm sees a
                batch.
            read_at (Callable[[int], bool]): whether to read the losses after an iteration; the same in all processes.
                Statistics that a bad batch has ruined are mended there, so reading must precede every checkpoint.
            max_skipped (int): steps left out in a row with which a reading stops the run.
            folder (str): where the batch that it stopped at is saved.
            asked_to_stop (Callable[[], bool]): whether this process was asked to end the run.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.amp_dtype = amp_dtype
        self.accumulation_steps = accumulation_steps
        self.read_at = read_at
        self.max_skipped = max_skipped
        self.folder = folder
        self.asked_to_stop = asked_to_stop
        self.grad_scaler = torch.amp.GradScaler(enabled=amp_dtype == torch.float16)
        self.guard = StepGuard(model, optimizer, self.grad_scaler)
        #: Whether the losses were read in this iteration, and whether any process had been asked to stop by then.
        self.has_read = self.must_stop = False
        self._batches = None
        self._window = LossWindow()
        self._skipped = 0

    def run_step(self):
        """Load a batch, forward, backward, update.

        Raises:
            FloatingPointError: for ``max_skipped`` steps in a row that were left out.
        """
        assert self.model.training, "the model was left in eval mode"
        self.has_read = False
        start = time.perf_counter()
        if self._batches is None:  # only now, since a resumed run first sets where its data begin
            self._batches = iter(self.data_loader)
            self.guard.keep_buffers()
        batch = next(self._batches)
        self._window.data_time += time.perf_counter() - start

        self.optimizer.zero_grad()
        *first, last = split_batch(batch, self.accumulation_steps)
        with self.model.no_sync() if first and hasattr(self.model, "no_sync") else nullcontext():
            finite = [self._accumulate(part) for part in first]
        finite.append(self._accumulate(last))
        self.guard.step(torch.stack(finite).all())

        self._window.length += 1
        if self.read_at(self.iter):
            self._read(batch)
            self.has_read = True

    def _accumulate(self, batch):
        """Forward and backward of a part of the batch; returns whether its losses are finite."""
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            losses = self.model(batch)
        if isinstance(losses, torch.Tensor):
            losses = {"total_loss": losses}
        self.grad_scaler.scale(sum(losses.values()) / self.accumulation_steps).backward()
        return self._window.add(losses)

    def _read(self, batch):
        """Record the mean losses of all processes in the EventStorage; waits for the device, as no other step does."""
        window, self._window = self._window, LossWindow()
        sums, (skipped, in_a_row) = window.read(self.guard.skipped, self.guard.in_a_row)
        mine = sums, in_a_row, window.data_time / window.length, self.asked_to_stop()
        sums, in_a_row, data_times, asked = zip(*comm.all_gather(mine))
        losses = mean_losses(sums)
        self.must_stop = any(asked)
        if skipped > self._skipped:
            self._see_to(int(skipped) - self._skipped, window.length, int(max(in_a_row)), losses, batch)
            self._skipped = int(skipped)
        self.guard.keep_buffers()
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", max(data_times))
            storage.put_scalar("total_loss", sum(losses.values()))
            if list(losses) != ["total_loss"]:
                storage.put_scalars(**losses)

    def _see_to(self, skipped, length, in_a_row, losses, batch):
        """Mend what the bad batches of the last ``length`` iterations have left behind, and warn or stop."""
        self.guard.restore_buffers()
        first = self.iter - length + 1
        if in_a_row < self.max_skipped:
            logger.warning(
                f"{skipped} of the {length} steps from iteration {first} to {self.iter} were left out, because their "
                "gradients were infinite or NaN."
            )
            return
        path = os.path.join(self.folder, f"bad_batch_{self.iter:07d}_{comm.get_rank()}.pth")
        try:
            write_file(path, lambda partial: dump(batch, partial))
            where = f"is saved as {path}"
        except (OSError, RuntimeError) as error:  # the disk's fault must not hide that of the run
            where = f"could not be saved as {path} ({error})"
        bad = ", ".join(name for name, value in losses.items() if not math.isfinite(value)) or "gradients alone"
        raise FloatingPointError(
            f"{in_a_row} steps in a row, up to iteration {self.iter}, were left out for what was infinite or NaN in "
            f"them ({bad}), and SOLVER.MAX_SKIPPED_STEPS is {self.max_skipped}; the last batch {where}. "
            "Lower SOLVER.BASE_LR, lengthen the warm-up, or look at the data."
        )

    def state_dict(self):
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["grad_scaler"] = self.grad_scaler.state_dict()
        state["skipped_steps"] = self._skipped
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if state_dict["grad_scaler"]:  # empty where there was no float16; its scale then is found anew
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        self._skipped = self.guard.skipped = state_dict.get("skipped_steps", 0)


def split_batch(batch, parts):
    """A batch in ``parts`` of equal size.

    Args:
        batch: a tensor or list of samples, which is sliced; what knows itself how to part, by ``in_parts``; or a dict
            or tuple of such (pinning turned tuples into lists before torch 2.11).
        parts (int): divides the number of samples.
    """
    if parts == 1:
        return [batch]
    if hasattr(batch, "in_parts"):
        return batch.in_parts(parts)
    if isinstance(batch, tuple) or (isinstance(batch, list) and hasattr(batch[0], "in_parts")):
        return list(zip(*(split_batch(values, parts) for values in batch)))
    if isinstance(batch, dict):
        pieces = {name: split_batch(values, parts) for name, values in batch.items()}
        return [{name: piece[i] for name, piece in pieces.items()} for i in range(parts)]
    size = len(batch) // parts
    return [batch[i * size : (i + 1) * size] for i in range(parts)]
