"""The training step, of pre-training and of every downstream task."""

import time
from contextlib import nullcontext

import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage


class TrainLoop(TrainerBase):
    """What detectron2's SimpleTrainer and AMPTrainer do, with either half precision, and reading the losses
    from the device now and then instead of in every iteration.

    The values that are recorded are means over the iterations since the last reading.
    """

    def __init__(
        self, model, data_loader, optimizer, amp_dtype=None, accumulation_steps=1, read_at=lambda iteration: True
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
            read_at (Callable[[int], bool]): whether to read the losses after an iteration. A loss that is
                not finite stops the run there, so reading must precede every checkpoint.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.amp_dtype = amp_dtype
        self.accumulation_steps = accumulation_steps
        self.read_at = read_at
        self.grad_scaler = torch.amp.GradScaler(enabled=amp_dtype == torch.float16)
        self._batches = None
        self._sums, self._data_time, self._count = {}, 0.0, 0

    def run_step(self):
        """Load a batch, forward, backward, update."""
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        if self._batches is None:  # only now, since a resumed run first sets where its data begin
            self._batches = iter(self.data_loader)
        batch = next(self._batches)
        self._data_time += time.perf_counter() - start

        self.optimizer.zero_grad()
        *first, last = split_batch(batch, self.accumulation_steps)
        with self.model.no_sync() if first and hasattr(self.model, "no_sync") else nullcontext():
            for part in first:
                self._accumulate(part)
        self._accumulate(last)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

        self._count += 1
        if self.read_at(self.iter):
            self._read_losses()

    def _accumulate(self, batch):
        """Forward and backward of a part of the batch."""
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            losses = self.model(batch)
        if isinstance(losses, torch.Tensor):
            losses = {"total_loss": losses}
        self.grad_scaler.scale(sum(losses.values()) / self.accumulation_steps).backward()
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0) + loss.detach() / self.accumulation_steps

    def _read_losses(self):
        """Record the mean losses of all processes in the EventStorage; the one point that waits for the device.

        Raises:
            FloatingPointError: naming the losses that are not finite.
        """
        values = (torch.stack([x.float() for x in self._sums.values()]) / self._count).tolist()
        means = dict(zip(self._sums, values), data_time=self._data_time / self._count)
        first = self.iter - self._count + 1
        self._sums, self._data_time, self._count = {}, 0.0, 0
        everywhere = comm.all_gather(means)
        losses = {name: sum(m[name] for m in everywhere) / len(everywhere) for name in means if name != "data_time"}
        bad = [name for name, value in losses.items() if not torch.isfinite(torch.tensor(value))]
        if bad:
            raise FloatingPointError(
                f"{', '.join(bad)} became infinite or NaN between iterations {first} and {self.iter}; nothing was "
                "saved since. Lower SOLVER.BASE_LR, lengthen the warm-up, or look at the data."
            )
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", max(m["data_time"] for m in everywhere))
            storage.put_scalar("total_loss", sum(losses.values()))
            if list(losses) != ["total_loss"]:
                storage.put_scalars(**losses)

    def state_dict(self):
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


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
