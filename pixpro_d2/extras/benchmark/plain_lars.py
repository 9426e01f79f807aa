"""Implement LARS in the usual plain way, as the yardstick of the optimiser."""

from typing import Any

import torch

# The defaults of pixpro_d2.solver.lars.LARS.
TRUST_COEFFICIENT = 0.001
EPS = 1e-8


class PerTensorLARS:
    """Run LARS in a loop over the tensors, around PyTorch's SGD in another loop."""

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, weight_decay: float) -> None:
        """
        Args:
            groups: result of :func:`pixpro_d2.solver.build.lars_groups`.
            lr: see :class:`pixpro_d2.solver.lars.LARS`, also for the other arguments.
        """
        self.sgd = torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=False)

    def zero_grad(self) -> None:
        """Remove the gradients."""
        self.sgd.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters once."""
        decays = [group["weight_decay"] for group in self.sgd.param_groups]
        for group, decay in zip(self.sgd.param_groups, decays):
            for p in group["params"]:
                if p.grad is None:
                    continue
                if decay > 0:
                    p.grad = p.grad.add(p, alpha=decay)
                if group.get("adapt", True):
                    weight_norm, grad_norm = torch.norm(p), torch.norm(p.grad)
                    if weight_norm > 0 and grad_norm > 0:
                        p.grad = p.grad.mul(TRUST_COEFFICIENT * weight_norm / (grad_norm + EPS))
            group["weight_decay"] = 0
        self.sgd.step()
        for group, decay in zip(self.sgd.param_groups, decays):
            group["weight_decay"] = decay
