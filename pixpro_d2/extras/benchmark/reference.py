"""Implement an iteration of PixPro plainly, operation by operation as in the official code, as the yardstick.

The reference computes in float32 with default memory formats. It uses a dense mask and all similarities of pixels for
each direction and level, and loops over the tensors of the model. Networks, input and initial weights are the same as
in the measured step, and so the losses must be the same.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import nn

from ...modeling.pretrain.correspondence import BoxCorrespondence
from ...modeling.pretrain.methods import PixProMethod
from ...modeling.pretrain.pixpro import PixPro
from ...modeling.pretrain.ppm import PixelPropagation
from ...solver.build import lars_groups
from ...utils.errors import UsageError
from .plain_lars import PerTensorLARS
from .plain_loss import propagate, regression_loss
from .sources import build_batches
from .step import build_start
from .timing import Steps


class ReferenceStep(Steps):
    """Run iterations to compare with :class:`pixpro_d2.extras.benchmark.step.TrainingStep`."""

    def __init__(self, cfg: CfgNode, source: str = "synthetic") -> None:
        """
        Args:
            cfg: result of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
            source: see :func:`pixpro_d2.extras.benchmark.sources.build_batches`.

        Raises:
            UsageError: if the config has more than PixPro's pixel loss, or another loss.
        """
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        solver = cfg.SOLVER
        self.model = build_start(cfg)
        check_comparable(cfg, self.model)
        self.device = self.model.device
        groups = lars_groups(self.model, solver.BASE_LR, solver.BIAS_LR_FACTOR)
        self.optimizer = PerTensorLARS(groups, solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY)
        self.max_iter = solver.MAX_ITER
        self.iteration = 0
        self.batches = iter(build_batches(cfg, source))
        self._values: list[float] = []

    def step(self) -> None:
        views, boxes = self.read_input(self.next_batch())
        online = [self.online(view) for view in views]
        self.move_target(1 - (1 - self.model.momentum) * (math.cos(math.pi * self.iteration / self.max_iter) + 1) / 2)
        with torch.no_grad():
            target = [self.target(view) for view in views]
        losses = self.compare(online, target, boxes)
        self.optimizer.zero_grad()
        sum(losses[1:], losses[0]).backward()
        self.optimizer.step()
        self._values = [loss.item() for loss in losses]
        self.iteration += 1

    def values(self) -> list[float]:
        """Return the losses of the last iteration by level."""
        return self._values

    @property
    def parts(self) -> dict[str, tuple[Any, str]]:
        return {
            "data": (self, "next_batch"),
            "input": (self, "read_input"),
            "forward online": (self, "online"),
            "forward target": (self, "target"),
            "PPM": (self, "propagate"),
            "correspondence and loss": (self, "compare"),
            "backward": (torch.Tensor, "backward"),
            "optimiser": (self.optimizer, "step"),
            "EMA": (self, "move_target"),
        }

    def read_input(self, batch: dict[str, Any]) -> tuple[list[torch.Tensor], Any]:
        """Return both views (N, C, S, S), normalised, and their boxes (N, 4)."""
        if "recipes" in batch:
            raise UsageError("The reference step has no colour augmentation: set INPUT.AUG_DEVICE cpu.")
        model = self.model
        views = [
            (view.to(self.device).float() - model.pixel_mean) / model.pixel_std for view in batch["views"].unbind(1)
        ]
        return views, model.correspondence.geometry(batch, self.device)

    def online(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the projections (N, C, H, W) by level."""
        model = self.model
        return self._project(images, model.backbone, model.head, model.projector)

    def target(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the projections (N, C, H, W) of the target by level."""
        model = self.model
        return self._project(images, model.target_backbone, model.target_head, model.target_projector)

    def _project(
        self, images: torch.Tensor, backbone: nn.Module, head: nn.Module | None, projector: nn.Module
    ) -> dict[str, torch.Tensor]:
        features = backbone(images)
        features = {level: features[level] for level in self.model.in_features}
        return projector(features if head is None else head(features))

    def compare(
        self, online: list[dict[str, torch.Tensor]], target: list[dict[str, torch.Tensor]], boxes: Any
    ) -> list[torch.Tensor]:
        """Return the losses of all levels."""
        box0, box1 = boxes
        levels = self.model.in_features
        ratio = self.model.correspondence.pos_ratio
        losses = []
        for level in levels:
            q0, q1 = (F.normalize(self.propagate(level, view[level]), dim=1) for view in online)
            k0, k1 = (F.normalize(view[level], dim=1) for view in target)
            loss = regression_loss(q0, k1, box0, box1, ratio) + regression_loss(q1, k0, box1, box0, ratio)
            losses.append(loss / len(levels))
        return losses

    def propagate(self, level: str, projections: torch.Tensor) -> torch.Tensor:
        """Return projections (N, C, H, W) after the pixel propagation of their level, if it exists."""
        ppm = self.model.ppm
        return projections if ppm is None else propagate(projections, cast(PixelPropagation, ppm[level]))

    @torch.no_grad()
    def move_target(self, momentum: float) -> None:
        """Move every tensor of the target separately."""
        for online, target in self.model.momentum_pairs():
            for q, k in zip(online.parameters(), target.parameters()):
                k.data = k.data * momentum + q.data * (1.0 - momentum)


def check_comparable(cfg: CfgNode, model: PixPro) -> None:
    """Raise a UsageError for a config that the reference step does not implement."""
    same = (
        isinstance(model.method, PixProMethod)
        and isinstance(model.correspondence, BoxCorrespondence)
        and model.instance is None
        and model.distillation is None
        and not (model.variance_weight or model.covariance_weight)
        and cfg.MODEL.PIXPRO.MEAN_OVER == "all"
        and cfg.SOLVER.OPTIMIZER == "LARS"
        and cfg.SOLVER.ACCUMULATION_STEPS == 1
        and not cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    )
    if not same:
        raise UsageError(
            "The reference step is PixPro's pixel loss between two crops with LARS: compare a config with METHOD "
            "pixpro, MEAN_OVER all, OPTIMIZER LARS, ACCUMULATION_STEPS 1 and unclipped gradients, and with "
            "INSTANCE.WEIGHT, DISTILL.WEIGHT, VARIANCE_WEIGHT and COVARIANCE_WEIGHT 0."
        )
