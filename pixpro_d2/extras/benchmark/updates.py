"""The end of an iteration alone: optimiser and momentum update."""

import torch

MOMENTUM = 0.99


class UpdateStep:
    """Updates of a model by random gradients, the same for the same seed; see :mod:`.timing`."""

    def __init__(self, training, seed=0):
        """
        Args:
            training (TrainingStep or ReferenceStep): whose model is updated in its way.
            seed (int): of the gradients.
        """
        self.training = training
        self.device = training.device
        self._parameters = [p for p in training.model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(seed)
        noise = (torch.randn(p.shape, generator=generator) for p in self._parameters)
        self._gradients = [torch.empty_like(p).copy_(x) for p, x in zip(self._parameters, noise)]

    def prepare(self):
        """Fresh gradients, which optimisers may change in place."""
        for p, gradient in zip(self._parameters, self._gradients):
            p.grad = gradient.clone()

    def step(self):
        """One update of the model, and one of its target."""
        self.training.optimizer.step()
        owner, name = self.training.parts["EMA"]
        getattr(owner, name)(MOMENTUM)

    def values(self):
        """Norm of each tensor of the model, list[float]."""
        return torch.stack(torch._foreach_norm([p.detach() for p in self.training.model.parameters()])).tolist()

    @property
    def parts(self):
        """Of an iteration; see :mod:`pixpro_d2.extras.benchmark.timing`."""
        return {name: self.training.parts[name] for name in ("optimiser", "EMA")}
