"""LARS exactly as in official PixPro, in multi-tensor calls."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

CACHED = 2**20  # number of weights updated together on the CPU; with gradients and momentum, they take 12 MiB


class LARS(Optimizer):
    """Apply SGD to gradients that are scaled, tensor by tensor, to a fixed share of the weights' norm.

    In a group with ``adapt`` set, first g += weight_decay * p. Then g *= trust_coefficient * |p| / (|g| + eps)
    where both norms are positive. SGD with momentum follows for every group. The ratio is computed after the
    weight decay is added, as in the official lars.py; most libraries add the weight decay to the denominator instead.
    The learning rate multiplies last, so the momentum buffer holds scaled gradients without the learning rate.

    A group with ``adapt=False`` is plain SGD with its own weight decay. The official code puts all
    1-D tensors (biases, norm weights) into such a group, with weight decay 0.

    A step never waits for the device: norms and ratios stay there. The gradients are scaled in place, which saves a
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
            RuntimeError: if the gradients still carry the scale of a GradScaler; trust ratios need true gradients.
        """
        if getattr(self, "grad_scale", None) is not None:
            raise RuntimeError("LARS takes true gradients: call GradScaler.unscale_(optimizer) before its step.")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for params in parts_of([p for p in group["params"] if p.grad is not None]):
                self._update(params, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state as PyTorch does, and convert the momentum to the memory format of the parameters."""
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            state["momentum_buffer"] = in_format_of(p, state["momentum_buffer"])

    def _update(self, params: list[torch.Tensor], group: dict[str, Any]) -> None:
        grads = [in_format_of(p, p.grad) for p in params if p.grad is not None]  # no params without gradients here
        buffers = [self._buffer(p) for p in params] if group["momentum"] != 0 else []
        if not params[0].is_cuda:  # fused SGD copies channels-last tensors on the CPU
            params, grads, buffers = ([in_memory_order(x) for x in tensors] for tensors in (params, grads, buffers))
        if group["weight_decay"] != 0:
            torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(grads, self._trust_ratios(params, grads, group))
        torch._fused_sgd_(
            params,
            grads,
            buffers,
            weight_decay=0.0,
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=getattr(self, "found_inf", None),
        )

    @staticmethod
    def _trust_ratios(
        params: list[torch.Tensor], grads: list[torch.Tensor], group: dict[str, Any]
    ) -> list[torch.Tensor]:
        weight_norms, grad_norms = norms_of(params), norms_of(grads)
        ratios = group["trust_coefficient"] * weight_norms / (grad_norms + group["eps"])
        positive = (weight_norms > 0) & (grad_norms > 0)
        return list(torch.where(positive, ratios, torch.ones_like(ratios)).unbind())

    def _buffer(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum_buffer"]


def parts_of(params: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Split ``params`` into lists to be updated one after the other.

    On the CPU, a list has at most CACHED weights, or a single tensor. On a GPU, one list has all parameters. An update
    reads its tensors several times. On the CPU they should stay in the cache meanwhile; on a GPU few large calls are
    faster.
    """
    parts: list[list[torch.Tensor]] = []
    size = 0
    for p in params:
        if not parts or (p.device.type == "cpu" and size + p.numel() > CACHED):
            parts.append([])
            size = 0
        parts[-1].append(p)
        size += p.numel()
    return parts


def norms_of(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return the Euclidean norms of tensors on one device, flat unless on CUDA, as a tensor (len(tensors),) there."""
    if tensors[0].is_cuda:
        return torch.stack(torch._foreach_norm(tensors))
    # On the CPU, a dot product of all values with themselves takes two thirds of the time.
    return torch.stack([torch.dot(x, x) for x in tensors]).sqrt()


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view (N,) of all values of a dense tensor in the order in which they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def in_format_of(p: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` with the strides of ``p``, which has the same shape.

    The fused kernel reads both in memory order.
    """
    strides = zip(p.shape, p.stride(), tensor.stride())
    if all(ours == theirs for side, ours, theirs in strides if side > 1):
        return tensor.as_strided(p.shape, p.stride())  # kernels also compare the strides of sides of size 1
    return torch.empty_like(p).copy_(tensor)
