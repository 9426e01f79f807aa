"""Measure only the end of an iteration: optimiser and momentum update."""

from typing import Any

import torch

from .reference import ReferenceStep
from .step import TrainingStep
from .timing import Steps

MOMENTUM = 0.99
SEED = 0  # of the gradients


class UpdateStep(Steps):
    """Update a model by random gradients, the same gradients for every model of the same shape."""

    def __init__(self, training: TrainingStep | ReferenceStep) -> None:
        """
        Args:
            training: training whose model is updated by its own optimiser.
        """
        self.training = training
        self.device = training.device
        self._parameters = [p for p in training.model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(SEED)
        noise = (torch.randn(p.shape, generator=generator) for p in self._parameters)
        self._gradients = [torch.empty_like(p).copy_(x) for p, x in zip(self._parameters, noise)]

    def prepare(self) -> None:
        """Set fresh gradients, because optimisers may change gradients in place."""
        for p, gradient in zip(self._parameters, self._gradients):
            p.grad = gradient.clone()

    def step(self) -> None:
        """Update the model and its target once."""
        self.training.optimizer.step()
        owner, name = self.training.parts["EMA"]
        getattr(owner, name)(MOMENTUM)

    def values(self) -> list[float]:
        """Return the norm of each tensor of the model."""
        return torch.stack(torch._foreach_norm([p.detach() for p in self.training.model.parameters()])).tolist()

    @property
    def parts(self) -> dict[str, tuple[Any, str]]:
        return {name: self.training.parts[name] for name in ("optimiser", "EMA")}
