"""The trainer of pre-training and of every downstream task."""

import itertools
import logging
import weakref

import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, hooks, train_loop
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules

from ..checkpoint import InputConvention, PixProCheckpointer
from ..config import is_pretraining
from ..data.datasets.catalog import load_dicts
from ..data.downstream.build import build_test_loader, build_train_loader
from ..data.downstream.tasks import check_classes, check_labels, check_masks, class_names, trained_classes_known
from ..data.downstream.train_stream import StreamLoader
from ..data.io.workers import explaining_workers
from ..data.overlap import image_places, warn_of_shared_images
from ..data.pretrain.loader import ViewLoader, build_view_loader
from ..evaluation.build import build_evaluator, check_test_set
from ..evaluation.checks import check_expected_tasks, check_to_train
from ..evaluation.pretext import evaluate_pretext, held_out_images
from ..modeling.backbone import bottom_up
from ..modeling.freeze import freeze_trunk
from ..solver.build import build_lr_scheduler, build_optimizer
from ..utils.errors import ONE_SENTENCE
from ..utils.signals import StopSignals
from .acceleration import amp_dtype, keep_freed_memory, prepare_model, set_precision
from .building import refusals_explained
from .checks import check_evaluation, check_norm_inputs
from .hooks import CheckpointHook, CollapseHook, EMAHook, HealthHook, LRScheduler, PreciseBN, SeedHook, UnreadableHook
from .loop import TrainLoop
from .pictures import build_picture_hook, build_prediction_hook
from .terminal import progress_line
from .writers import build_wandb_writers


class Trainer(DefaultTrainer):
    """detectron2's DefaultTrainer with the parts of pixpro_d2; ``cfg`` must come from :func:`.configure.setup`."""

    def __init__(self, cfg):
        # Builds what DefaultTrainer builds, the data first, which are checked; that class offers no place to choose
        # the training loop, the checkpointer or the arguments of DDP.
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
        warn_of_shared_images(data_loader.loader.dataset.images, tested)
        model = self.build_model(cfg)
        if is_pretraining(cfg):
            check_norm_inputs(cfg, {**bottom_up(model.backbone).output_shape(), **model.used_features()})
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
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        classes = class_names(cfg, cfg.DATASETS.TRAIN)
        self.checkpointer = self.build_checkpointer(cfg, model, classes=classes, trainer=weakref.proxy(self))
        self.register_hooks(self.build_hooks())

    def train(self):
        """As detectron2's; when asked to stop by a signal, saves a checkpoint and exits with the code REQUEUE."""
        with self._signals, explaining_workers(), progress_line(self, self.cfg.SOLVER.IMS_PER_BATCH):
            return super().train()

    def after_train(self):
        if self.start_iter >= self.max_iter:  # detectron2 counts an iteration on even where there was none to do
            self.iter = self.start_iter
        super().after_train()

    def run_step(self):
        with explaining_workers():  # here too, within what detectron2 logs errors of
            super().run_step()

    def _reads_losses(self, iteration):
        """Read the losses when they are written, before a checkpoint or an evaluation, and to hear who is to stop.

        Several processes agree on that only where they meet anyway.
        """
        done = iteration + 1
        periods = (self.cfg.SOLVER.METRICS_PERIOD, self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.TEST.EVAL_PERIOD)
        alone = comm.get_world_size() == 1 and self._signals.received is not None
        return alone or done == self.max_iter or any(done % period == 0 for period in periods if period)

    def resume_or_load(self, resume=True):
        """As detectron2's; a resumed run goes on with the next batch, a fresh pre-training copies the loaded
        weights to the target branch."""
        super().resume_or_load(resume)
        if self.start_iter > 0:
            self.data_loader.start_at(self.start_iter)
        elif is_pretraining(self.cfg):
            self.checkpointer.model.reset_target()

    def state_dict(self):
        """Iteration, hooks and optimiser; detectron2 v0.6's DefaultTrainer forgets the optimiser."""
        return {**TrainerBase.state_dict(self), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict):
        TrainerBase.load_state_dict(self, state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    def build_hooks(self):
        """detectron2's hooks in their order, with those of this project where they belong."""
        cfg, solver, pixpro = self.cfg, self.cfg.SOLVER, self.cfg.MODEL.PIXPRO
        built = [hooks.IterationTimer(), SeedHook(cfg.SEED), LRScheduler()]
        if is_pretraining(cfg):
            built += [EMAHook(self.checkpointer.model), CollapseHook(pixpro.COLLAPSE_STD, pixpro.PROJECTOR.OUT_DIM)]
            if isinstance(self.data_loader, ViewLoader):
                built.append(UnreadableHook(self.data_loader, self._trainer))
            if cfg.VIS_PERIOD > 0:  # in all processes, which some methods' comparisons bring together
                built.append(build_picture_hook(cfg, self.checkpointer.model))
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            loader = self.build_train_loader(_without_workers(cfg))  # its own, so that training's goes on untouched
            built.append(PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER))
        if cfg.VIS_PERIOD > 0 and not is_pretraining(cfg):
            built.append(build_prediction_hook(cfg, self.checkpointer.model, self.build_test_loader))
        keep = solver.CHECKPOINT_KEEP_LAST, solver.CHECKPOINT_KEEP_EVERY
        periods = solver.CHECKPOINT_PERIOD, solver.CHECKPOINT_MINUTES
        built.append(CheckpointHook(self.checkpointer, self._trainer, *periods, *keep))
        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if comm.is_main_process():
            if is_pretraining(cfg):
                spread = pixpro.COLLAPSE_STD, pixpro.PROJECTOR.OUT_DIM
                built.append(HealthHook(cfg.TEST.EVAL_PERIOD, *spread, cfg.OUTPUT_DIR))
            period = cfg.TEST.EVAL_PERIOD
            period = min(20, period) if period > 0 else 20  # no evaluation takes the place of an unwritten one
            built.append(hooks.PeriodicWriter(self.build_writers(), period))
        return [hook for hook in built if hook is not None]

    def build_writers(self):
        """Weights & Biases where it is asked for, then detectron2's, the last of which clears the pictures."""
        return [*build_wandb_writers(self.cfg, lambda: self.start_iter > 0), *super().build_writers()]

    def _evaluate(self):
        self._last_eval_results = self.test(self.cfg, self.checkpointer.model)
        return self._last_eval_results

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """As detectron2's; a pre-training is evaluated without labels, in all processes."""
        return evaluate_pretext(cfg, model) if is_pretraining(cfg) else super().test(cfg, model, evaluators)

    @classmethod
    def build_checkpointer(cls, cfg, model, **options):
        """Return a checkpointer in OUTPUT_DIR; ``options`` are further ones of PixProCheckpointer."""
        return PixProCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            allow_partial=cfg.MODEL.ALLOW_PARTIAL_WEIGHTS,
            require_trunk=cfg.MODEL.BACKBONE.FROZEN,
            convention=InputConvention.from_config(cfg),
            **options,
        )

    @classmethod
    def build_optimizer(cls, cfg, model):
        with refusals_explained("The optimiser", "SOLVER"):
            return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        with refusals_explained("The schedule", "SOLVER"):
            return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_model(cls, cfg):
        with refusals_explained("The model", "MODEL"):
            model = super().build_model(cfg)
        if cfg.MODEL.BACKBONE.FROZEN:
            freeze_trunk(model)
        return prepare_model(cfg, model) if is_pretraining(cfg) else model

    @classmethod
    def build_train_loader(cls, cfg):
        """Two-view loader for pre-training, the stream of samples for everything else; both begin at any iteration."""
        if is_pretraining(cfg):
            return build_view_loader(cfg)
        loader = build_train_loader(cfg)
        check_classes(cfg, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        return loader

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        loader = build_test_loader(cfg, dataset_name)
        check_classes(cfg, [dataset_name])
        return loader

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def evaluate(cls, cfg, resume=False):
        """Evaluate MODEL.WEIGHTS, or with ``resume`` the last checkpoint of OUTPUT_DIR, on DATASETS.TEST.

        Returns:
            dict: the results; checked against TEST.EXPECTED_RESULTS.
        """
        check_evaluation(cfg, resume)
        tested = check_test_data(cfg)
        neighbors = cfg.DATASETS.TRAIN if cfg.MODEL.META_ARCHITECTURE == "KNNClassifier" else ()
        loaders = [cls.build_test_loader(cfg, name) for name in neighbors]
        warn_of_shared_images(itertools.chain.from_iterable(map(load_dicts, neighbors)), tested)
        check_classes(cfg, [*trained_classes_known(cfg), *cfg.DATASETS.TEST])
        set_precision(cfg)
        model = cls.build_model(cfg)
        classes = class_names(cfg, cfg.DATASETS.TEST)
        checkpointer = cls.build_checkpointer(cfg, model, classes=classes, complete=True)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        if loaders:
            model.fit(itertools.chain.from_iterable(loaders))
        results = cls.test(cfg, model)
        if comm.is_main_process():
            check_expected_tasks(cfg.TEST.EXPECTED_RESULTS, results)
            verify_results(cfg, results)
        return results


def check_test_data(cfg):
    """Check before training, or loading a model, that DATASETS.TEST can be evaluated; loads its annotations.

    Returns:
        dict[str, set]: where the images lie that will be tested on, by data set; see
            :func:`pixpro_d2.data.overlap.image_places`.

    Raises:
        UsageError: for a data set that is missing or without the labels of the task; see also
            :func:`pixpro_d2.evaluation.build.check_test_set`; for a pre-training without images there.
    """
    if is_pretraining(cfg):
        names = "', '".join(cfg.DATASETS.TEST)
        return {names: image_places(held_out_images(cfg))} if names else {}
    places = {}
    for name in cfg.DATASETS.TEST:
        images, place = load_dicts(name), f"Data set '{name}' of DATASETS.TEST"
        check_labels(cfg, place, images)
        if MetadataCatalog.get(name).get("evaluator_type") != "pascal_voc":  # which evaluates boxes alone
            check_masks(cfg, place, images)
        check_test_set(name, images, masks=cfg.MODEL.MASK_ON)
        places[name] = image_places(images)
    return places


def check_train_data(cfg, data_loader):
    """Check, before the model is built, the annotated images that ``data_loader`` loads for a downstream task.

    Raises:
        UsageError: see :func:`pixpro_d2.evaluation.checks.check_to_train`.
    """
    # Classification takes the class from the folder, and may have millions of images.
    if isinstance(data_loader, StreamLoader) and cfg.MODEL.META_ARCHITECTURE != "LinearClassifier":
        masks = cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else ""
        check_to_train(cfg.DATASETS.TRAIN, data_loader.loader.dataset.images, masks)


def _without_workers(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


def wrap_ddp(cfg, model):
    """The model in DistributedDataParallel if there are several processes."""
    options = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    if is_pretraining(cfg) or not torch.cuda.is_available():
        options["device_ids"] = None  # otherwise it copies the batch itself, waiting for the device at each tensor
    unused = getattr(model, "has_unused_parameters", False)
    options["find_unused_parameters"] = unused
    # A detector's graph changes with what it proposes; that of two views never does.
    options["static_graph"] = is_pretraining(cfg) and not unused and cfg.SOLVER.ACCUMULATION_STEPS == 1
    return create_ddp_model(model, **options)


def _in_one_sentence(record):
    """detectron2 logs what ends a training with its traceback; an error that says itself what to do needs none."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(error, ONE_SENTENCE):
        record.msg, record.exc_info = f"Training ended: {error}", None
    return True


logging.getLogger(train_loop.__name__).addFilter(_in_one_sentence)
