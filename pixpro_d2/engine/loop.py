"""The training step of every task, its losses, and the guard against non-finite gradients."""

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
from ..utils.files import write_file

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
            if self._skipped:
                storage.put_scalar("skipped_steps", self._skipped, smoothing_hint=False)
            if torch.cuda.is_available():
                storage.put_scalar("max_mem", torch.cuda.max_memory_allocated() / 2**20, smoothing_hint=False)

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


class LossWindow:
    """The losses since the last reading, on their device, and the time spent waiting for data.

    What is infinite or NaN is left out of the means.
    """

    def __init__(self):
        self.length, self.data_time = 0, 0.0
        self._sums, self._counts = {}, {}

    def add(self, losses):
        """Add the losses (dict of str to 0-d Tensor) of a batch, or of a part of one.

        Returns:
            Tensor: 0-d bool, whether all of them are finite.
        """
        finite = []
        for name, loss in losses.items():
            loss = loss.detach().float()
            finite.append(loss.isfinite())
            self._sums[name] = self._sums.get(name, 0) + loss.nan_to_num(0, 0, 0)
            self._counts[name] = self._counts.get(name, 0) + finite[-1]
        return torch.stack(finite).all()

    def read(self, *others):
        """Wait for the device, once.

        Args:
            others (Tensor): 0-d, to be read with the losses.

        Returns:
            tuple[dict, list]: (sum, number) of each loss, and the values of ``others``.
        """
        values = [*self._sums.values(), *self._counts.values(), *others]
        values = torch.stack([x.float() for x in values]).tolist()
        size = len(self._sums)
        return dict(zip(self._sums, zip(values[:size], values[size:]))), values[2 * size :]


def mean_losses(sums):
    """Mean of each loss, NaN of none, from the (sum, number) of each that all processes have read."""
    means = {}
    for name in sums[0]:
        totals, counts = zip(*(of_one[name] for of_one in sums))
        means[name] = sum(totals) / sum(counts) if any(counts) else float("nan")
    return means


class StepGuard:
    """Takes the optimiser's steps, but for those with a gradient that is infinite or NaN, and counts these.

    The decision is taken on the device. LARS and PyTorch's fused optimisers follow it there; for any other the host
    waits for it. All processes decide alike, because their gradients are the same.

    Norms keep what a bad batch has done to their running statistics; :meth:`restore_buffers` brings back good ones.
    """

    def __init__(self, model, optimizer, grad_scaler):
        """
        Args:
            model (nn.Module): whose floating-point buffers are looked after; call :meth:`keep_buffers` before it sees a
                first batch.
            optimizer (torch.optim.Optimizer):
            grad_scaler (torch.amp.GradScaler): if enabled, it decides: it leaves steps out to find its scale.
        """
        self.optimizer = optimizer
        self.grad_scaler = grad_scaler
        self.skipped = self.in_a_row = 0  # 0-d tensors from the first step on
        self._model = model
        self._good = []

    def step(self, finite_loss):
        """Step, unless a gradient is not finite.

        Args:
            finite_loss (Tensor): 0-d bool; with an enabled scaler, steps with it count as ``in_a_row`` only when the
                scale, below 1 by then, cannot be to blame.
        """
        if self.grad_scaler.is_enabled():
            small = self.grad_scaler._scale < 1
            found = self._scaled_step()
            counts = found * (~finite_loss | small)
        else:
            counts = found = self._step()
        self.skipped = self.skipped + found
        self.in_a_row = (self.in_a_row + 1) * counts

    def _step(self):
        found = non_finite(group["params"] for group in self.optimizer.param_groups)
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):  # PyTorch's protocol, see GradScaler.step
            self.optimizer.grad_scale, self.optimizer.found_inf = None, found
            self.optimizer.step()
            del self.optimizer.grad_scale, self.optimizer.found_inf
        elif not found:
            self.optimizer.step()
        return found

    def _scaled_step(self):
        self.grad_scaler.unscale_(self.optimizer)
        (found,) = self.grad_scaler._found_inf_per_device(self.optimizer).values()
        found = found.clone().squeeze()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        return found

    def keep_buffers(self):
        """Remember the buffers as they are."""
        buffers = self._buffers()
        if not self._good:
            self._good = [torch.empty_like(x) for x in buffers]
        if buffers:
            torch._foreach_copy_(self._good, buffers)

    def restore_buffers(self):
        """Give the buffers that are no longer finite the values they were kept with."""
        for buffer, good in zip(self._buffers(), self._good):
            if not buffer.isfinite().all():
                buffer.copy_(good)

    def _buffers(self):
        # Asked for each time: a module may put another tensor in a buffer's place.
        return [x for x in self._model.buffers() if x.is_floating_point()]


@torch.no_grad()
def non_finite(groups):
    """1 if a gradient of the tensors in ``groups`` (iterable of lists) is infinite or NaN, else 0: 0-d, float32."""
    grads = [p.grad for group in groups for p in group if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(grads))
    return (~norms.isfinite().all()).float()
