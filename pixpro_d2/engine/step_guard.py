"""Steps whose gradients are not finite are left out, so that one bad batch does not ruin a run of days."""

import torch


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
