"""LARS exactly as in official PixPro: in large calls on a GPU, tensor by tensor on a CPU."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

CACHED = 2**18  # values of two tensors that stay in the cache of a CPU's core, 2 MiB
Tensors = list[torch.Tensor]


class LARS(Optimizer):
    """Apply SGD to gradients that are scaled, tensor by tensor, to a fixed share of the weights' norm.

    In a group with ``adapt`` set, first g += weight_decay * p. Then g *= trust_coefficient * |p| / (|g| + eps)
    where both norms are positive. SGD with momentum follows for every group. The ratio is computed after the
    weight decay is added, as in the official lars.py; most libraries add the weight decay to the denominator instead.
    The learning rate multiplies last, so the momentum buffer holds scaled gradients without the learning rate.

    A group with ``adapt=False`` is plain SGD with its own weight decay. The official code puts all
    1-D tensors (biases, norm weights) into such a group, with weight decay 0.

    A step never waits for a GPU: norms and ratios stay there. There the gradients are scaled in place, which saves a
    copy of all weights and its memory traffic.
    """

    # By PyTorch's protocol (torch.amp.GradScaler.step), a step with ``found_inf`` set to 1 changes nothing.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 1e-8,
    ) -> None:
        """
        Args:
            params: tensors or parameter groups; a group may set ``adapt`` (default True).
            lr, momentum, weight_decay, trust_coefficient, eps: values >= 0.
        """
        values = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        values.update(trust_coefficient=trust_coefficient, eps=eps)
        for name, value in values.items():
            if value < 0:
                raise ValueError(f"LARS: {name} is {value}; it must not be negative.")
        super().__init__(params, dict(values, adapt=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once; return the closure's loss if there is a closure.

        Raises:
            RuntimeError: if the gradients still carry the scale of a GradScaler; trust ratios need true gradients. If
                parameters on a CPU have half precision.
        """
        if getattr(self, "grad_scale", None) is not None:
            raise RuntimeError("LARS takes true gradients: call GradScaler.unscale_(optimizer) before its step.")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                grads = [in_format_of(p, p.grad) for p in params]
                buffers = [self._buffer(p) for p in params] if group["momentum"] != 0 else []
                update = self._update_on_cpu if params[0].device.type == "cpu" else self._update_on_gpu
                update(params, grads, buffers, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state as PyTorch does, and convert the momentum to the memory format of the parameters."""
        super().load_state_dict(state_dict)
        match_parameters(self)

    def _update_on_gpu(self, params: Tensors, grads: Tensors, buffers: Tensors, group: dict[str, Any]) -> None:
        """Update all parameters of a group in few large calls, without waiting for the device."""
        if group["weight_decay"] != 0:
            torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(grads, self._trust_ratios(params, grads, group))
        self._sgd(params, grads, buffers, group, weight_decay=0.0)

    def _update_on_cpu(self, params: Tensors, grads: Tensors, buffers: Tensors, group: dict[str, Any]) -> None:
        """Update parameters one after the other, and leave their gradients unchanged.

        Fused SGD multiplies the gradient and its weight decay by (1 - dampening), here the trust ratio, in the pass of
        the update. Fused SGD would copy channels-last tensors, but not their flat views. In half precision it would
        leave weights as they are.
        """
        if params[0].dtype not in (torch.float32, torch.float64):
            raise RuntimeError(f"LARS on a CPU updates float32 and float64, not {params[0].dtype}: convert the model.")
        params, grads, buffers = ([in_memory_order(x) for x in tensors] for tensors in (params, grads, buffers))
        if not group["adapt"]:
            self._sgd(params, grads, buffers, group)
            return
        for i, (p, grad) in enumerate(zip(params, grads)):
            ratio = trust_ratio(p, grad, group)
            # Without momentum, fused SGD ignores the dampening.
            scaled = {"dampening": 1.0 - ratio} if buffers else {"lr": group["lr"] * ratio}
            self._sgd([p], [grad], buffers[i : i + 1], group, **scaled)

    def _sgd(self, params: Tensors, grads: Tensors, buffers: Tensors, group: dict[str, Any], **changed: float) -> None:
        values = {name: group[name] for name in ("weight_decay", "momentum", "lr")}
        torch._fused_sgd_(
            params,
            grads,
            buffers,
            **{**values, "dampening": 0.0, **changed},
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=getattr(self, "found_inf", None),
        )

    @staticmethod
    def _trust_ratios(params: Tensors, grads: Tensors, group: dict[str, Any]) -> Tensors:
        weight_norms, grad_norms = (torch.stack(torch._foreach_norm(tensors)) for tensors in (params, grads))
        ratios = group["trust_coefficient"] * weight_norms / (grad_norms + group["eps"])
        positive = (weight_norms > 0) & (grad_norms > 0)
        return list(torch.where(positive, ratios, torch.ones_like(ratios)).unbind())

    def _buffer(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum_buffer"]


def trust_ratio(weight: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> float:
    """Return trust_coefficient * |w| / (|g + d w| + eps), or 1 where a norm is not positive, on the CPU.

    d is the weight decay, and |g + d w|^2 = |g|^2 + 2 d gw + d^2 |w|^2. So one pass over the values suffices, in pieces
    that stay in the cache for all three products.

    Args:
        weight, grad: (N,), w and g.
        group: parameter group of the optimiser.
    """
    ww = wg = gg = 0.0
    for w, g in zip(weight.split(CACHED), grad.split(CACHED)):
        ww += torch.dot(w, w).item()
        wg += torch.dot(w, g).item()
        gg += torch.dot(g, g).item()
    decay = group["weight_decay"]
    squared = gg + 2 * decay * wg + decay**2 * ww if decay else gg
    if squared < 1e-3 * gg:  # g and d w cancel each other, and float32 leaves too few digits
        squared = (grad.double() + decay * weight.double()).square().sum().item()
    if not (ww > 0 and squared > 0):
        return 1.0
    return group["trust_coefficient"] * math.sqrt(ww) / (math.sqrt(squared) + group["eps"])


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view (N,) of all values of a dense tensor in the order in which they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def match_parameters(optimizer: Optimizer) -> None:
    """Move the state of each parameter to its device, and values of its shape to its memory format.

    Fused kernels pair values in memory order.
    """
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                value = value.to(p.device)
                state[name] = in_format_of(p, value) if value.shape == p.shape else value


def in_format_of(p: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` with the strides of ``p``, which has the same shape.

    The fused kernel reads both in memory order.
    """
    strides = zip(p.shape, p.stride(), tensor.stride())
    if all(ours == theirs for side, ours, theirs in strides if side > 1):
        return tensor.as_strided(p.shape, p.stride())  # kernels also compare the strides of sides of size 1
    return torch.empty_like(p).copy_(tensor)
