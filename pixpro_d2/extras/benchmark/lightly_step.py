"""Run an iteration of lightly's BYOL, which a user may take instead: the same ResNet, two views, both branches."""

import copy
import math
from typing import Any

import torch
import torchvision
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...engine.acceleration import amp_dtype, keep_freed_memory, set_precision
from ...utils.errors import UsageError
from .sources import build_batches
from .timing import Steps

LEARNING_RATE = 0.06  # of lightly's example for BYOL


class LightlyStep(Steps):
    """Run iterations as lightly's example for BYOL writes them, in the precision of our step.

    Four forward passes and two backward passes of the ResNet are the same as PixPro's. The heads see vectors, and not
    pixels. Its loss is another, so losses are not compared.
    """

    def __init__(self, cfg: CfgNode, source: str = "synthetic") -> None:
        """
        Args:
            cfg: result of :func:`pixpro_d2.extras.benchmark.step.measured_config`, of a plain ResNet on RGB images.
            source: see :func:`pixpro_d2.extras.benchmark.sources.build_batches`.

        Raises:
            UsageError: if lightly is not installed, or for another backbone.
        """
        lightly = _import_lightly()
        if cfg.MODEL.BACKBONE.NAME != "build_resnet_backbone" or cfg.INPUT.AUG_DEVICE != "cpu":
            raise UsageError(
                "lightly's step has a plain ResNet, and no colour augmentation: compare a config with "
                "MODEL.BACKBONE.NAME build_resnet_backbone and INPUT.AUG_DEVICE cpu."
            )
        set_precision(cfg)
        keep_freed_memory(cfg.MODEL.DEVICE)
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
        torch.manual_seed(cfg.SEED)
        self.device = torch.device(cfg.MODEL.DEVICE)
        resnet = getattr(torchvision.models, f"resnet{cfg.MODEL.RESNETS.DEPTH}")()
        channels = resnet.fc.in_features
        resnet.fc = nn.Identity()
        heads = lightly.models.modules.heads
        self.encoder = nn.Sequential(resnet, heads.BYOLProjectionHead(channels, 4096, 256)).to(self.device)
        self.predictor = heads.BYOLPredictionHead(256, 4096, 256).to(self.device)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.criterion = lightly.loss.NegativeCosineSimilarity()
        self.optimizer = torch.optim.SGD([*self.encoder.parameters(), *self.predictor.parameters()], LEARNING_RATE)
        self._update_momentum = lightly.models.utils.update_momentum
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(-1, 1, 1)
            for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        )
        self._dtype = amp_dtype(cfg)
        self.batches = iter(build_batches(cfg, source))
        self._loss = math.nan

    def step(self) -> None:
        views = self.read_input(self.next_batch())
        self.move_target(0.99)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            online = [self.online(view) for view in views]
            with torch.no_grad():
                target = [self.target(view) for view in views]
            loss = (self.criterion(online[0], target[1]) + self.criterion(online[1], target[0])) / 2
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._loss = loss.item()

    def values(self) -> list[float]:
        """Return the loss of the last iteration."""
        return [self._loss]

    @property
    def parts(self) -> dict[str, tuple[Any, str]]:
        return {
            "data": (self, "next_batch"),
            "input": (self, "read_input"),
            "forward online": (self, "online"),
            "forward target": (self, "target"),
            "backward": (torch.Tensor, "backward"),
            "optimiser": (self.optimizer, "step"),
            "EMA": (self, "move_target"),
        }

    def read_input(self, batch: dict[str, Any]) -> list[Tensor]:
        """Return both views (N, C, S, S), normalised."""
        return [(view.to(self.device).float() - self._mean) / self._std for view in batch["views"].unbind(1)]

    def online(self, images: Tensor) -> Tensor:
        """Return the predictions (N, C)."""
        return self.predictor(self.encoder(images))

    def target(self, images: Tensor) -> Tensor:
        """Return the projections (N, C) of the target."""
        return self.target_encoder(images)

    def move_target(self, momentum: float) -> None:
        """Move the target towards the online branch."""
        self._update_momentum(self.encoder, self.target_encoder, momentum)


def _import_lightly() -> Any:
    """Return the module lightly with the parts of BYOL.

    Raises:
        UsageError: if lightly is not installed.
    """
    try:
        import lightly.loss
        import lightly.models.modules.heads
        import lightly.models.utils
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "lightly":
            raise
        raise UsageError("--compare lightly needs lightly: run pip install lightly.") from error
    return lightly
