"""Build the measured step of pre-training: the trainer's own step, without the trainer around it."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from ...config import is_pretraining, with_values
from ...data.io.reader import restrict_pillow
from ...data.pretrain.samples import dataset_name
from ...engine.acceleration import accelerate, amp_dtype, keep_freed_memory, set_precision
from ...engine.checks import check_batch, check_image_format
from ...engine.configuration.configure import load_config, resolve_device, resolve_schedule, resolve_sync_bn
from ...engine.configuration.registered import check_registered
from ...engine.hooks import EMAHook
from ...engine.loop import TrainLoop
from ...modeling.pretrain.pixpro import PixPro
from ...modeling.pretrain.ppm import PixelPropagation
from ...solver.build import build_optimizer
from ...utils.errors import UsageError
from .sources import build_batches
from .timing import Steps

SMALL_BATCH, LARGE_BATCH = 8, 128  # on the CPU, on a GPU


def measured_config(
    config_file: str,
    opts: Sequence[Any] = (),
    device: str | None = None,
    batch: int | None = None,
    folder: str | None = None,
) -> CfgNode:
    """Return the config of a pre-training as in the first iteration of a run on this machine.

    Args:
        config_file: YAML file.
        opts: KEY VALUE ... on top of the file.
        device: device; by default ``cuda`` if there is a GPU.
        batch: number of images; by default 128 on a GPU, 8 on the CPU.
        folder: images to load instead of DATASETS.TRAIN.

    Raises:
        UsageError: if the config has a mistake or is not a pre-training.
    """
    cfg = load_config(config_file, list(opts))
    restrict_pillow(cfg.DATALOADER.MAX_IMAGE_PIXELS)
    if not is_pretraining(cfg):
        raise UsageError(f"{config_file} is not of a pre-training: choose from configs/pretrain.")
    cfg.MODEL.DEVICE = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cfg.SOLVER.IMS_PER_BATCH = batch or (LARGE_BATCH if cfg.MODEL.DEVICE.startswith("cuda") else SMALL_BATCH)
    cfg.SEED = max(cfg.SEED, 0)
    if folder:
        cfg.DATASETS.TRAIN = (dataset_name(cfg, folder),)
    check_registered(cfg)
    resolve_device(cfg)
    resolve_sync_bn(cfg)
    check_image_format(cfg)
    check_batch(cfg)
    cfg.SOLVER.MAX_EPOCHS = cfg.SOLVER.WARMUP_EPOCHS = 0  # epochs need the number of images; steps do not
    resolve_schedule(cfg)
    cfg.SOLVER.BASE_LR *= cfg.SOLVER.WARMUP_FACTOR
    return cfg


def build_start(cfg: CfgNode) -> PixPro:
    """Build the model that every measured step starts from: the same weights for the same SEED."""
    torch.manual_seed(cfg.SEED)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    return build_model(cfg).train()


def uncompiled(cfg: CfgNode) -> CfgNode:
    """Return the config without compilation."""
    return with_values(cfg, {"MODEL.PIXPRO.COMPILE": False})


class TrainingStep(Steps):
    """Run iterations of :class:`pixpro_d2.engine.loop.TrainLoop` with the momentum update."""

    def __init__(self, cfg: CfgNode, source: str = "synthetic", read_period: int | None = None) -> None:
        """
        Args:
            cfg: result of :func:`measured_config`.
            source: see :func:`pixpro_d2.extras.benchmark.sources.build_batches`.
            read_period: iterations between two readings of the losses; by default SOLVER.METRICS_PERIOD.
        """
        set_precision(cfg)
        keep_freed_memory(cfg.MODEL.DEVICE)
        self.model = accelerate(cfg, build_start(cfg))
        self.device = self.model.device
        self.optimizer = build_optimizer(cfg, self.model)
        period = read_period or cfg.SOLVER.METRICS_PERIOD
        self.batches = iter(build_batches(cfg, source))
        self._loop = TrainLoop(
            self.model,
            iter(lambda: self.next_batch(), None),  # look up the method in each call, for the clock of the parts
            self.optimizer,
            amp_dtype(cfg),
            cfg.SOLVER.ACCUMULATION_STEPS,
            read_at=lambda iteration: (iteration + 1) % period == 0,
        )
        self._loop.max_iter = cfg.SOLVER.MAX_ITER
        self._loop.storage = EventStorage()
        self._loop.register_hooks([EMAHook(self.model)])

    def step(self) -> None:
        with self._loop.storage:
            self._loop.before_step()
            self._loop.run_step()
            self._loop.after_step()
        self._loop.iter += 1

    def values(self) -> list[float]:
        """Return the losses of the last reading."""
        scalars = self._loop.storage.latest()
        return [value for name, (value, _) in scalars.items() if name.startswith("loss_")]

    @property
    def parts(self) -> dict[str, tuple[Any, str]]:
        return {
            "data": (self, "next_batch"),
            "input": (self.model, "views_and_geometry"),
            "forward online": (self.model, "_online"),
            "forward target": (self.model, "_target"),
            "PPM": (PixelPropagation, "forward"),
            "correspondence and loss": (self.model, "compare"),
            "backward": (torch.Tensor, "backward"),
            "optimiser": (self.optimizer, "step"),
            "EMA": (self.model, "move_target"),
        }
