"""Take the training steps of every task, record their losses, and skip steps with non-finite gradients."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..checkpoint.saving import dump
from ..utils.errors import UsageError
from ..utils.files import write_file
from ..utils.machine import peak_memory

logger = logging.getLogger(__name__)


class TrainLoop(TrainerBase):
    """Train like detectron2's SimpleTrainer and AMPTrainer, with either half precision, and rare readings of losses.

    A reading waits for the device. Recorded values are means over the iterations since the last reading. Steps with
    non-finite gradients are skipped. After too many skipped steps in a row, the run stops.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        amp_dtype: torch.dtype | None = None,
        accumulation_steps: int = 1,
        read_at: Callable[[int], bool] = lambda iteration: True,
        max_skipped: int = 1,
        folder: str = ".",
        asked_to_stop: Callable[[], bool] = lambda: False,
        smooth: bool = True,
    ) -> None:
        """
        Args:
            model: returns a dict of losses, or one loss, for a batch.
            data_loader: endless.
            optimizer: updates the parameters of ``model``.
            amp_dtype: type to autocast to; float16 scales the loss, None means float32.
            accumulation_steps: number of equal parts of a batch, computed one after the other. The gradient is the
                mean over the parts. It equals the gradient of the whole batch if the loss is a mean over all images
                and no norm uses batch statistics.
            read_at: whether to read the losses after an iteration; the same in all processes. A reading also restores
                statistics of norms that a bad batch has ruined, so a reading must precede every checkpoint.
            max_skipped: number of skipped steps in a row after which a reading stops the run.
            folder: folder for the batch that stopped the run.
            asked_to_stop: whether this process was asked to end the run.
            smooth: let detectron2's writers take the median of the last 20 readings of a loss. Readings that are means
                over many iterations need no median, which would lag behind by as many readings.
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
        self.smooth = smooth
        self.grad_scaler = torch.amp.GradScaler(enabled=amp_dtype == torch.float16)
        self.guard = StepGuard(model, optimizer, self.grad_scaler)
        #: Whether the losses were read in this iteration, and whether any process had been asked to stop by then.
        self.has_read = self.must_stop = False
        #: Iterator over ``data_loader``, None before the first step.
        self.batches: Iterator[Any] | None = None
        self._window = LossWindow()
        self._skipped = 0
        # A mean of past iterations that divides the losses of RetinaNet and FCOS, of each process at the last reading;
        # detectron2 keeps it as a number of the model. Checkpoints follow readings.
        self._normalizers: tuple[float | None, ...] = ()

    def run_step(self) -> None:
        """Load a batch, compute losses and gradients, and update the parameters.

        Raises:
            FloatingPointError: for ``max_skipped`` skipped steps in a row.
        """
        assert self.model.training, "the model was left in eval mode"
        self.has_read = False
        start = time.perf_counter()
        if self.batches is None:  # not before, because a resumed run first sets the position of its data
            self.batches = iter(self.data_loader)
            self.guard.keep_buffers()
        batch = next(self.batches)
        self._window.data_time += time.perf_counter() - start

        self.optimizer.zero_grad()
        *first, last = split_batch(batch, self.accumulation_steps)
        no_sync = getattr(self.model, "no_sync", None)  # of DistributedDataParallel
        with no_sync() if first and no_sync else nullcontext():
            finite = [self._accumulate(part) for part in first]
        finite.append(self._accumulate(last))
        self.guard.step(torch.stack(finite).all())

        self._window.length += 1
        if self.read_at(self.iter):
            self._read(batch, start)
            self.has_read = True
        else:
            self._window.step_time += time.perf_counter() - start

    def _accumulate(self, batch: Any) -> Tensor:
        """Compute losses and gradients of a part of the batch; return whether the losses are finite, 0-d bool."""
        device = next(self.model.parameters()).device.type
        autocast = torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)
        with autocast, single_values_explained():
            losses = self.model(batch)
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        self.grad_scaler.scale(sum(losses.values()) / self.accumulation_steps).backward()
        return self._window.add(losses)

    def _read(self, batch: Any, start: float) -> None:
        """Wait for the device, and record the mean losses of all processes in the EventStorage.

        Record also the mean times of a step, which began at ``start``, and of its waiting for data. detectron2's
        ``time`` is a median, which hides the few long steps of a loader that delivers many batches at once.
        """
        window, self._window = self._window, LossWindow()
        sums, (skipped, in_a_row) = window.read(self.guard.skipped, self.guard.in_a_row)
        step_time = (window.step_time + time.perf_counter() - start) / window.length
        normalizer = getattr(_plain(self.model), "loss_normalizer", None)
        mine = sums, in_a_row, window.data_time / window.length, self.asked_to_stop(), normalizer
        all_sums, all_in_a_row, data_times, asked, self._normalizers = zip(*comm.all_gather(mine))
        losses = mean_losses(all_sums)
        self.must_stop = any(asked)
        if skipped > self._skipped:
            self._handle_skipped_steps(
                int(skipped) - self._skipped, window.length, int(max(all_in_a_row)), losses, batch
            )
            self._skipped = int(skipped)
        self.guard.keep_buffers()
        if comm.is_main_process():
            storage = get_event_storage()
            losses = {"total_loss": sum(losses.values())} | losses
            times = {"step_time": step_time, "data_time": max(data_times)}
            storage.put_scalars(**times, smoothing_hint=False)
            storage.put_scalars(**losses, smoothing_hint=self.smooth)
            if self._skipped:
                storage.put_scalar("skipped_steps", self._skipped, smoothing_hint=False)
            device = next(self.model.parameters()).device
            if device.type == "cuda":
                storage.put_scalar("max_mem", peak_memory(device) / 2**20, smoothing_hint=False)

    def _handle_skipped_steps(
        self, skipped: int, length: int, in_a_row: int, losses: Mapping[str, float], batch: Any
    ) -> None:
        """Restore statistics that bad batches of the last ``length`` iterations have ruined, then warn or stop."""
        self.guard.restore_buffers()
        first = self.iter - length + 1
        if in_a_row < self.max_skipped:
            logger.warning(
                f"{skipped} of the {length} steps from iteration {first} to {self.iter} were skipped, because their "
                "gradients were infinite or NaN."
            )
            return
        path = os.path.join(self.folder, f"bad_batch_{self.iter:07d}_{comm.get_rank()}.pth")
        try:
            write_file(path, lambda partial: dump(batch, partial))
            where = f"is saved as {path}"
        except (OSError, RuntimeError) as error:  # an error of the disk must not hide the error of the run
            where = f"could not be saved as {path} ({error})"
        bad = ", ".join(name for name, value in losses.items() if not math.isfinite(value)) or "gradients alone"
        raise FloatingPointError(
            f"{in_a_row} steps in a row, up to iteration {self.iter}, were skipped because of infinite values or NaN "
            f"({bad}), and SOLVER.MAX_SKIPPED_STEPS is {self.max_skipped}; the last batch {where}. "
            "Lower SOLVER.BASE_LR, lengthen the warm-up, or look at the data."
        )

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["grad_scaler"] = self.grad_scaler.state_dict()
        state["skipped_steps"] = self._skipped
        state["loss_normalizers"] = list(self._normalizers)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`; weight decay, momentum and the like are those of the config.

        Raises:
            UsageError: if the state is of an optimiser of another kind.
        """
        super().load_state_dict(state_dict)
        saved, groups = state_dict["optimizer"], self.optimizer.state_dict()["param_groups"]
        if ("betas" in saved["param_groups"][0]) != ("betas" in groups[0]):
            raise UsageError(
                "The checkpoint was written with another SOLVER.OPTIMIZER: resume with the same optimiser, or start a "
                "new run from the checkpoint by MODEL.WEIGHTS."
            )
        if len(saved["param_groups"]) == len(groups):  # otherwise PyTorch refuses
            for theirs, own in zip(saved["param_groups"], groups):
                own["params"] = theirs["params"]
            saved = {**saved, "param_groups": groups}
        self.optimizer.load_state_dict(saved)
        if state_dict["grad_scaler"]:  # empty without float16; the scale then starts at its default
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        self._skipped = self.guard.skipped = state_dict.get("skipped_steps", 0)
        self._normalizers = tuple(state_dict.get("loss_normalizers", ()))
        own = comm.get_rank() if len(self._normalizers) == comm.get_world_size() else 0
        if any(self._normalizers):
            _plain(self.model).loss_normalizer = self._normalizers[own]


def _plain(model: nn.Module) -> Any:
    """Return the model without DistributedDataParallel."""
    return getattr(model, "module", model)


def split_batch(batch: Any, parts: int) -> list[Any]:
    """Split a batch into ``parts`` of equal size.

    Args:
        batch: a tensor or list of samples, or an object with a method ``in_parts``; or a dict or tuple of such
            batches (pinning turned tuples into lists before torch 2.11).
        parts: divides the number of samples.
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


@contextmanager
def single_values_explained() -> Iterator[None]:
    """Turn PyTorch's error about a batch norm with one value a channel, which has no variance, into a UsageError."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            f"A batch norm of the model gets one value for each channel ({str(error).rpartition('input size ')[2]}): "
            "give each process at least 2 images (SOLVER.IMS_PER_BATCH), or larger images or crops."
        ) from error


class LossWindow:
    """Sum the losses since the last reading, on their device, and the times of steps and of waiting for data.

    Means skip infinite values and NaN.
    """

    def __init__(self) -> None:
        self.length, self.step_time, self.data_time = 0, 0.0, 0.0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Add the losses (0-d, by name) of a batch, or of a part of a batch.

        Returns:
            0-d bool, whether all losses are finite.
        """
        finite = []
        for name, loss in losses.items():
            loss = loss.detach().float()
            finite.append(loss.isfinite())
            self._sums[name] = self._sums.get(name, 0) + loss.nan_to_num(0, 0, 0)
            self._counts[name] = self._counts.get(name, 0) + finite[-1]
        return torch.stack(finite).all()

    def read(self, *others: Tensor) -> tuple[dict[str, tuple[float, float]], list[float]]:
        """Read all values from the device, waiting once.

        Args:
            others: 0-d tensors to read with the losses.

        Returns:
            (sum, number) of each loss, and the values of ``others``.
        """
        tensors = [*self._sums.values(), *self._counts.values(), *others]
        values = torch.stack([x.float() for x in tensors]).tolist()
        size = len(self._sums)
        return dict(zip(self._sums, zip(values[:size], values[size:]))), values[2 * size :]


def mean_losses(sums: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Return the mean of each loss, NaN for a loss without finite values.

    Args:
        sums: (sum, number) of each loss, of each process.
    """
    means = {}
    for name in sums[0]:
        totals, counts = zip(*(of_one[name] for of_one in sums))
        means[name] = sum(totals) / sum(counts) if any(counts) else float("nan")
    return means


class StepGuard:
    """Take the optimiser's steps, skip steps with an infinite or NaN gradient, and count the skipped steps.

    The device decides whether to skip a step. LARS and PyTorch's fused optimisers skip it on the device. For other
    optimisers the host waits for the decision. All processes decide alike, because their gradients are the same.

    A bad batch can ruin the running statistics of norms; :meth:`restore_buffers` restores them.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, grad_scaler: torch.amp.GradScaler) -> None:
        """
        Args:
            model: its floating-point buffers are kept and restored; call :meth:`keep_buffers` before its first batch.
            optimizer: takes the steps.
            grad_scaler: if enabled, it decides, because it skips steps to find its scale.
        """
        self.optimizer = optimizer
        self.grad_scaler = grad_scaler
        # Steps skipped by a fault, in all and in a row: 0 before the first step, then 0-d tensors.
        self.skipped: Any = 0
        self.in_a_row: Any = 0
        self._model = model
        self._good: list[Tensor] = []

    def step(self, finite_loss: Tensor) -> None:
        """Take a step, unless a gradient is not finite.

        Args:
            finite_loss: 0-d bool, whether the loss is finite. With an enabled scaler, a skipped step with a finite
                loss counts only if the scale is below 1. A larger scale may be the cause.
        """
        if self.grad_scaler.is_enabled():
            small = self.grad_scaler._scale < 1  # type: ignore[operator]  # the first scaled loss has set it
            found = self._scaled_step()
            counts = found * (~finite_loss | small)
        else:
            counts = self._step()
        self.skipped = self.skipped + counts
        self.in_a_row = (self.in_a_row + 1) * counts

    def _step(self) -> Tensor:
        """Take or skip a step; return 1 for a skipped step, else 0: 0-d, float32."""
        optimizer: Any = self.optimizer  # Any: Optimizer lacks the attributes of the protocol below
        found = non_finite(group["params"] for group in optimizer.param_groups)
        if getattr(optimizer, "_step_supports_amp_scaling", False):  # PyTorch's protocol, see GradScaler.step
            optimizer.grad_scale, optimizer.found_inf = None, found
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        elif not found:
            optimizer.step()
        return found

    def _scaled_step(self) -> Tensor:
        """Take or skip a step as the scaler decides; return 1 for a skipped step, else 0: 0-d, float32."""
        self.grad_scaler.unscale_(self.optimizer)
        (found,) = self.grad_scaler._found_inf_per_device(self.optimizer).values()
        found = found.clone().squeeze()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        return found

    def keep_buffers(self) -> None:
        """Remember the buffers as they are."""
        buffers = self._buffers()
        if not self._good:
            self._good = [torch.empty_like(x) for x in buffers]
        if buffers:
            torch._foreach_copy_(self._good, buffers)

    def restore_buffers(self) -> None:
        """Restore the kept values of buffers that are no longer finite."""
        for buffer, good in zip(self._buffers(), self._good):
            if not buffer.isfinite().all():
                buffer.copy_(good)

    def _buffers(self) -> list[Tensor]:
        # List them each time, because a module may replace a buffer by another tensor.
        return [x for x in self._model.buffers() if x.is_floating_point()]


@torch.no_grad()
def non_finite(groups: Iterable[Iterable[Tensor]]) -> Tensor:
    """Return 1 if a gradient of the tensors in ``groups`` is infinite or NaN, else 0: 0-d, float32."""
    grads = [p.grad for group in groups for p in group if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(grads))
    return (~norms.isfinite().all()).float()
