"""LARS exactly as official PixPro has it, in multi-tensor calls."""

import torch
from torch.optim import Optimizer

CACHED = 2**20  # weights that are updated together on the CPU; with gradients and momentum, 12 MiB


class LARS(Optimizer):
    """SGD whose gradients are scaled, tensor by tensor, to a fixed share of the weights' norm.

    For a group with ``adapt`` set: g += weight_decay * p, then g *= trust_coefficient * |p| / (|g| + eps)
    where both norms are positive. Then SGD with momentum for every group. The ratio is taken after the
    weight decay is added (official lars.py; most libraries add it to the denominator instead), and the
    learning rate multiplies last, so the momentum buffer holds scaled gradients without it.

    A group with ``adapt=False`` is plain SGD with its own weight decay: the official code puts all
    1-D tensors (biases, norm weights) there, with weight decay 0.

    No step waits for the device: norms and ratios stay there. The gradients are scaled in place, which saves a copy
    of all weights and its traffic.
    """

    # By PyTorch's protocol (torch.amp.GradScaler.step), a step with ``found_inf`` set to 1 changes nothing.
    _step_supports_amp_scaling = True

    def __init__(self, params, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=1e-8):
        """
        Args:
            params: tensors or parameter groups; a group may set ``adapt`` (default True).
            lr, momentum, weight_decay, trust_coefficient, eps (float): >= 0.
        """
        values = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        values.update(trust_coefficient=trust_coefficient, eps=eps)
        for name, value in values.items():
            if value < 0:
                raise ValueError(f"LARS: {name} is {value}; it must not be negative.")
        super().__init__(params, dict(values, adapt=True))

    @torch.no_grad()
    def step(self, closure=None):
        """One update; returns the closure's loss, if a closure is given.

        Raises:
            RuntimeError: for gradients that still carry the scale of a GradScaler, as trust ratios need the true ones.
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

    def load_state_dict(self, state_dict):
        """As torch's; the momentum of a checkpoint gets the memory format of the parameters."""
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            state["momentum_buffer"] = in_format_of(p, state["momentum_buffer"])

    def _update(self, params, group):
        grads = [in_format_of(p, p.grad) for p in params]
        if group["weight_decay"] != 0:
            torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(grads, self._trust_ratios(params, grads, group))
        torch._fused_sgd_(
            params,
            grads,
            [self._buffer(p) for p in params] if group["momentum"] != 0 else [],
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
    def _trust_ratios(params, grads, group):
        weight_norms, grad_norms = norms_of(params), norms_of(grads)
        ratios = group["trust_coefficient"] * weight_norms / (grad_norms + group["eps"])
        positive = (weight_norms > 0) & (grad_norms > 0)
        return list(torch.where(positive, ratios, torch.ones_like(ratios)).unbind())

    def _buffer(self, p):
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum_buffer"]


def parts_of(params):
    """``params`` in lists to be updated one after the other: of CACHED weights (or of one tensor), on a GPU all.

    An update walks through its tensors several times. On the CPU they had better stay in the cache meanwhile; on a GPU
    few large calls are faster.
    """
    parts, size = [], 0
    for p in params:
        if not parts or (p.device.type == "cpu" and size + p.numel() > CACHED):
            parts.append([])
            size = 0
        parts[-1].append(p)
        size += p.numel()
    return parts


def norms_of(tensors):
    """Euclidean norms of dense tensors of one device, as one tensor on it."""
    if tensors[0].is_cuda:
        return torch.stack(torch._foreach_norm(tensors))
    # On the CPU a product of all values, as they lie, with themselves takes two thirds of the time.
    flat = [x.as_strided((x.numel(),), (1,)) for x in tensors]
    return torch.stack([torch.dot(x, x) for x in flat]).sqrt()


def in_format_of(p, tensor):
    """``tensor`` with the strides of ``p``, of the same shape: the fused kernel walks through both as they lie."""
    strides = zip(p.shape, p.stride(), tensor.stride())
    if all(ours == theirs for side, ours, theirs in strides if side > 1):
        return tensor.as_strided(p.shape, p.stride())  # strides of sides of 1 mean nothing, but kernels compare them
    return torch.empty_like(p).copy_(tensor)
