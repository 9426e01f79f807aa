"""Train and evaluate pre-training and every downstream task."""

import itertools
import logging
import os
import weakref
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase, hooks, train_loop
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler as Scheduler

from ..checkpoint import InputConvention, PixProCheckpointer
from ..checkpoint.initialize import Initialization, initialize
from ..config import is_pretraining, with_values
from ..data.datasets.catalog import load_dicts
from ..data.downstream.build import build_test_loader, build_train_loader
from ..data.downstream.tasks import check_classes, check_labels, check_masks, class_names, trained_classes_known
from ..data.downstream.train_stream import StreamLoader
from ..data.inspection.overlap import image_files, warn_of_shared_images
from ..data.inspection.stored_values import warn_of_lost_values
from ..data.io.workers import explaining_workers
from ..data.pretrain.loader import ViewLoader, build_view_loader
from ..evaluation.build import build_evaluator, check_test_set, predicts_masks
from ..evaluation.checks import (
    check_expected_tasks,
    check_to_train,
    warn_of_another_scale,
    warn_of_crowded_images,
)
from ..evaluation.pretext import evaluate_pretext, held_out_images
from ..evaluation.summary import describe_results
from ..modeling.backbone import bottom_up
from ..modeling.float32_parts import keep_float32
from ..modeling.freeze import freeze_trunk
from ..solver.build import build_lr_scheduler, build_optimizer
from ..utils.errors import ONE_SENTENCE
from ..utils.signals import StopSignals
from .acceleration import accelerate, amp_dtype, keep_freed_memory, set_precision
from .building import refusals_explained
from .checks import check_evaluation, check_norm_inputs, check_prototypes
from .hooks import (
    CheckpointHook,
    CollapseHook,
    EMAHook,
    HealthHook,
    LRScheduler,
    PlainBackboneHook,
    PreciseBN,
    SeedHook,
    UnreadableHook,
)
from .loop import TrainLoop
from .terminal import progress_line
from .writers import PatientWriter, TensorboardWriter, build_wandb_writers

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Train like detectron2's DefaultTrainer, with the parts of pixpro_d2."""

    def __init__(self, cfg: CfgNode) -> None:
        """
        Args:
            cfg: result of :func:`.configuration.configure.setup`.
        """
        # DefaultTrainer.__init__ does not let a subclass choose the training loop, the checkpointer or the arguments of
        # DDP. This method builds the same parts, and checks the data first.
        TrainerBase.__init__(self)
        self.cfg = cfg
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self._signals = StopSignals()
        tested = check_test_data(cfg)  # before hours of training
        set_precision(cfg)
        keep_freed_memory(cfg.MODEL.DEVICE)
        data_loader = self.build_train_loader(cfg)
        check_train_data(cfg, data_loader)
        if isinstance(data_loader, ViewLoader | StreamLoader):  # a sub-class may build another loader
            dataset: Any = data_loader.loader.dataset
            warn_of_shared_images(dataset.images, tested)
            if is_pretraining(cfg):
                warn_of_lost_values(dataset.images, cfg.INPUT.PIXEL_RANGE, cfg.DATALOADER.RETRY_SECONDS)
        model: Any = self.build_model(cfg)
        if is_pretraining(cfg):
            check_norm_inputs(cfg, {**bottom_up(model.backbone).output_shape(), **model.used_features()})
            check_prototypes(cfg, model.used_features())
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = TrainLoop(
            wrap_ddp(cfg, model),
            data_loader,
            optimizer,
            amp_dtype(cfg),
            cfg.SOLVER.ACCUMULATION_STEPS,
            read_at=self._reads_losses,
            max_skipped=cfg.SOLVER.MAX_SKIPPED_STEPS,
            folder=cfg.OUTPUT_DIR,
            asked_to_stop=lambda: self._signals.received is not None,
            smooth=cfg.SOLVER.METRICS_PERIOD == 1,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        classes = class_names(cfg, cfg.DATASETS.TRAIN)
        self.checkpointer = self.build_checkpointer(cfg, model, classes=classes, trainer=weakref.proxy(self))
        self.register_hooks(self.build_hooks())

    def train(self) -> Any:
        """Train as detectron2 does; after a stop signal, save a checkpoint and exit with the code REQUEUE."""
        with self._signals, explaining_workers(), progress_line(self, self.cfg.SOLVER.IMS_PER_BATCH):
            return super().train()

    def after_train(self) -> None:
        if self.start_iter >= self.max_iter:  # detectron2 counts one iteration even if none was left to do
            self.iter = self.start_iter
        super().after_train()

    def run_step(self) -> None:
        with explaining_workers():  # also here, because detectron2 logs the errors of steps
            super().run_step()

    def _reads_losses(self, iteration: int) -> bool:
        """Return whether to read the losses after ``iteration``.

        Losses are read when they are written, and before a checkpoint or an evaluation. A single process also reads
        them after a stop signal; several processes agree on a stop only at the regular readings.
        """
        done = iteration + 1
        periods = (self.cfg.SOLVER.METRICS_PERIOD, self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.TEST.EVAL_PERIOD)
        alone = comm.get_world_size() == 1 and self._signals.received is not None
        return alone or done == self.max_iter or any(done % period == 0 for period in periods if period)

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume the run in OUTPUT_DIR, or load MODEL.WEIGHTS if there is no checkpoint.

        A resumed run continues with the next batch, if the loader has ``start_at(iteration)``. A new pre-training
        copies the loaded weights to the target branch.
        """
        if resume and self.checkpointer.resume() is not None:
            self.start_iter = self.iter + 1
            if hasattr(self.data_loader, "start_at"):
                self.data_loader.start_at(self.start_iter)
            else:
                logger.warning(
                    f"The resumed run reads its data from the start again: the {type(self.data_loader).__name__} of "
                    "build_train_loader has no method start_at(iteration)."
                )
            return
        if resume:
            logger.info(f"{self.cfg.OUTPUT_DIR} has no checkpoint to resume from: the run starts at iteration 0.")
        self.initialize(self.cfg, self.checkpointer.model, self.cfg.MODEL.WEIGHTS)
        if is_pretraining(self.cfg):
            self.checkpointer.model.reset_target()

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, hooks and optimiser; DefaultTrainer of detectron2 v0.6 omits the optimiser."""
        return {**TrainerBase.state_dict(self), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore iteration, hooks and optimiser; the learning rate follows the config, not the checkpoint."""
        fresh = self.scheduler.state_dict()
        TrainerBase.load_state_dict(self, state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        self.scheduler.load_state_dict({**fresh, "last_epoch": self.scheduler.last_epoch})
        if self.scheduler.last_epoch < self.max_iter:  # schedules are not defined beyond
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_lr()):
                group["lr"] = rate

    def build_hooks(self) -> list[HookBase]:
        """Return detectron2's hooks in their order, with the hooks of this project between them."""
        cfg, solver, pixpro = self.cfg, self.cfg.SOLVER, self.cfg.MODEL.PIXPRO
        built = [hooks.IterationTimer(), SeedHook(cfg.SEED), LRScheduler()]
        if is_pretraining(cfg):
            built += [EMAHook(self.checkpointer.model), CollapseHook(pixpro.COLLAPSE_STD, pixpro.PROJECTOR.OUT_DIM)]
            if isinstance(self.data_loader, ViewLoader):
                built.append(UnreadableHook(self.data_loader, self._trainer))
            if cfg.VIS_PERIOD > 0:  # in all processes: some methods compare features of all
                from .pictures import build_picture_hook  # imports matplotlib, which most runs need not wait for

                built.append(build_picture_hook(cfg, self.checkpointer.model))
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            # A loader of its own, so that the training's loader keeps its position.
            loader = self.build_train_loader(with_values(cfg, {"DATALOADER.NUM_WORKERS": 0}))
            built.append(PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER))
        if cfg.VIS_PERIOD > 0 and not is_pretraining(cfg):
            from .pictures import build_prediction_hook

            built.append(build_prediction_hook(cfg, self.checkpointer.model, self.build_test_loader))
        keep = solver.CHECKPOINT_KEEP_LAST, solver.CHECKPOINT_KEEP_EVERY
        periods = solver.CHECKPOINT_PERIOD, solver.CHECKPOINT_MINUTES
        built.append(CheckpointHook(self.checkpointer, self._trainer, *periods, *keep))
        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if comm.is_main_process():
            period = cfg.TEST.EVAL_PERIOD
            written = min(20, period) if period > 0 else 20  # write each evaluation before the next replaces it
            if is_pretraining(cfg):
                limits = pixpro.COLLAPSE_STD, pixpro.PROJECTOR.OUT_DIM
                built.append(HealthHook(period, *limits, cfg.OUTPUT_DIR, written))
            built.append(hooks.PeriodicWriter(self.build_writers(), written))
            built.append(PlainBackboneHook(self.checkpointer, InputConvention.from_config(cfg)))
        elif cfg.VIS_PERIOD > 0:  # detectron2 draws in all processes, and only a writer empties the storage
            built.append(hooks.CallbackHook(after_step=lambda trainer: trainer.storage.clear_images()))
        return [hook for hook in built if hook is not None]

    def build_writers(self) -> list[EventWriter]:
        """Return the writer of W&B if it is enabled, then writers like detectron2's, whose last clears the pictures.

        The printer takes the median of the readings of 20 iterations; detectron2 v0.6 takes that of 20 readings.
        """
        printer = CommonMetricPrinter(self.max_iter, window_size=max(1, 20 // self.cfg.SOLVER.METRICS_PERIOD))
        folder = self.cfg.OUTPUT_DIR
        os.makedirs(folder, exist_ok=True)
        files = [JSONWriter(os.path.join(folder, "metrics.json")), TensorboardWriter(folder, lambda: self.start_iter)]
        wandb = build_wandb_writers(self.cfg, lambda: self.start_iter > 0)
        return [*wandb, printer, *(PatientWriter(writer, folder) for writer in files)]

    def _evaluate(self) -> dict[str, Any]:
        results = self.test(self.cfg, self.checkpointer.model)
        self._last_eval_results = by_task(self.cfg, results)  # which detectron2 compares with TEST.EXPECTED_RESULTS
        return results

    @classmethod
    def test(cls, cfg: CfgNode, model: Any, evaluators: Any = None) -> dict[str, Any]:
        """Evaluate as detectron2 does; evaluate a pre-training without labels, in all processes."""
        if is_pretraining(cfg):
            return evaluate_pretext(cfg, model)
        results = super().test(cfg, model, evaluators)
        for line in describe_results(results, cfg.DATASETS.TEST) if comm.is_main_process() else ():
            logger.info(line)
        return results

    @classmethod
    def build_checkpointer(cls, cfg: CfgNode, model: nn.Module, **options: Any) -> PixProCheckpointer:
        """Return a checkpointer in OUTPUT_DIR; ``options`` are further arguments of PixProCheckpointer."""
        return PixProCheckpointer(model, cfg.OUTPUT_DIR, convention=InputConvention.from_config(cfg), **options)

    @classmethod
    def initialize(
        cls, cfg: CfgNode, model: nn.Module, path: str, complete: bool = False, classes: Sequence[str] | None = None
    ) -> Initialization:
        """Load the weights of a file into a model of ``cfg``; see :mod:`pixpro_d2.checkpoint.initialize`."""
        return initialize(
            model,
            path,
            convention=InputConvention.from_config(cfg),
            allow_partial=cfg.MODEL.ALLOW_PARTIAL_WEIGHTS,
            frozen=cfg.MODEL.BACKBONE.FROZEN,
            complete=complete,
            classes=classes,
        )

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        with refusals_explained("The optimiser", "SOLVER"):
            return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> Scheduler:
        with refusals_explained("The schedule", "SOLVER"):
            return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        with refusals_explained("The model", "MODEL"):
            model = super().build_model(cfg)
        keep_float32(model)
        if cfg.MODEL.BACKBONE.FROZEN:
            freeze_trunk(model)
        return accelerate(cfg, model) if is_pretraining(cfg) else model

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> ViewLoader | StreamLoader:
        """Return a loader of views for pre-training, of samples for other tasks; it can start at any iteration."""
        if is_pretraining(cfg):
            return build_view_loader(cfg)
        loader = build_train_loader(cfg)
        check_classes(cfg, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        loader = build_test_loader(cfg, dataset_name)
        check_classes(cfg, [dataset_name])
        return loader

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def evaluate(cls, cfg: CfgNode, resume: bool = False) -> dict[str, Any]:
        """Evaluate MODEL.WEIGHTS, or with ``resume`` the last checkpoint of OUTPUT_DIR, on DATASETS.TEST.

        Returns:
            The results, which have been checked against TEST.EXPECTED_RESULTS.
        """
        check_evaluation(cfg, resume)
        tested = check_test_data(cfg)
        neighbors = cfg.DATASETS.TRAIN if cfg.MODEL.META_ARCHITECTURE == "KNNClassifier" else ()
        loaders = [cls.build_test_loader(cfg, name) for name in neighbors]
        warn_of_shared_images(itertools.chain.from_iterable(map(load_dicts, neighbors)), tested)
        check_classes(cfg, [*trained_classes_known(cfg), *cfg.DATASETS.TEST])
        set_precision(cfg)
        model: Any = cls.build_model(cfg)
        classes = class_names(cfg, cfg.DATASETS.TEST)
        if not resume or cls.build_checkpointer(cfg, model, classes=classes).resume() is None:
            cls.initialize(cfg, model, cfg.MODEL.WEIGHTS, complete=True, classes=classes)
        if loaders:
            model.fit(itertools.chain.from_iterable(loaders))
        results = cls.test(cfg, model)
        if comm.is_main_process():
            tasks = by_task(cfg, results)
            check_expected_tasks(cfg.TEST.EXPECTED_RESULTS, tasks)
            verify_results(cfg, tasks)
        return results


def by_task(cfg: CfgNode, results: dict[str, Any]) -> dict[str, Any]:
    """Return the results of an evaluation by task; those of several test sets by ``NAME/TASK``."""
    if len(cfg.DATASETS.TEST) < 2 or is_pretraining(cfg):
        return results
    return {f"{name}/{task}": found for name, tasks in results.items() for task, found in tasks.items()}


def check_test_data(cfg: CfgNode) -> dict[str, set]:
    """Load the annotations of DATASETS.TEST, and check that it can be evaluated, before a model is loaded or trained.

    Returns:
        Files of the test images, by data set; see :func:`pixpro_d2.data.inspection.overlap.image_files`.

    Raises:
        UsageError: for a missing data set, or a data set without the labels of the task, or without images for a
            pre-training; see also :func:`pixpro_d2.evaluation.build.check_test_set`.
    """
    if is_pretraining(cfg):
        names = "', '".join(cfg.DATASETS.TEST)
        return {names: image_files(held_out_images(cfg))} if names else {}
    files = {}
    for name in cfg.DATASETS.TEST:
        images, place = load_dicts(name), f"Data set '{name}' of DATASETS.TEST"
        check_labels(cfg, place, images)
        warn_of_another_scale(cfg, name, images)
        warn_of_crowded_images(cfg, name, images)
        if MetadataCatalog.get(name).get("evaluator_type") != "pascal_voc":  # it evaluates only boxes
            check_masks(cfg, place, images)
        check_test_set(name, images, masks=predicts_masks(cfg))
        files[name] = image_files(images)
    return files


def check_train_data(cfg: CfgNode, data_loader: ViewLoader | StreamLoader) -> None:
    """Check the annotated images of a downstream task before the model is built.

    Raises:
        UsageError: see :func:`pixpro_d2.evaluation.checks.check_to_train`.
    """
    # Classification takes the class from the folder, and may have millions of images.
    if isinstance(data_loader, StreamLoader) and cfg.MODEL.META_ARCHITECTURE != "LinearClassifier":
        masks = cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else ""
        dataset: Any = data_loader.loader.dataset
        check_to_train(cfg.DATASETS.TRAIN, dataset.images, masks)


def wrap_ddp(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return the model in DistributedDataParallel if there are several processes; otherwise the model itself."""
    options: dict[str, Any] = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    if is_pretraining(cfg) or not cfg.MODEL.DEVICE.startswith("cuda"):
        options["device_ids"] = None  # otherwise DDP copies each tensor of the batch and waits for it
    unused = getattr(model, "has_unused_parameters", False)
    options["find_unused_parameters"] = unused
    # The graph of a detector changes with its proposals. The graph of a pre-training never changes.
    options["static_graph"] = is_pretraining(cfg) and not unused and cfg.SOLVER.ACCUMULATION_STEPS == 1
    return create_ddp_model(model, **options)


def _in_one_sentence(record: logging.LogRecord) -> bool:
    """Remove the traceback from detectron2's log of an error whose message says what to do; keep every record."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, ONE_SENTENCE):
        record.msg, record.exc_info = f"Training ended: {error}", None
    return True


logging.getLogger(train_loop.__name__).addFilter(_in_one_sentence)
