"""Define the config keys that pixpro_d2 adds to detectron2's.

This file is their documentation: a comment above each key, or above keys that belong together, says what the key means.
A comment above a node, ``CN()``, describes the node.
"""

from collections.abc import Callable, Mapping
from typing import Any

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from .utils.nested import set_value

#: Functions that add keys of other projects to the default config, such as ``add_swint_config``; append yours.
ADD_KEYS: list[Callable[[CN], None]] = []


def default_config() -> CN:
    """Return the default config of a run: the keys of detectron2, its project DeepLab, pixpro_d2 and ``ADD_KEYS``."""
    from detectron2.projects.deeplab import add_deeplab_config  # it loads DeepLab's models too

    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_pixpro_config(cfg)
    own = cfg.clone()
    for add_keys in ADD_KEYS:
        add_keys(cfg)
    _put_back(cfg, own)  # so that no other project changes a default of these recipes
    return cfg


def add_pixpro_config(cfg: CN) -> None:
    """Add the missing keys of pixpro_d2 to ``cfg``, with the defaults of the official PixPro scripts.

    A value that ``cfg`` already has stays, also if another project has added the key.

    Args:
        cfg: result of ``detectron2.config.get_cfg()``; changed in place.
    """
    existing = cfg.clone()
    _add_model_config(cfg)
    _add_downstream_config(cfg)
    _add_input_config(cfg)
    _add_solver_config(cfg)
    cfg.DISTRIBUTED = CN()
    # Minutes after which a process stops waiting for the other processes, and fails.
    cfg.DISTRIBUTED.TIMEOUT_MINUTES = 30.0
    cfg.WANDB = CN()
    # Record a training also by Weights & Biases, which must be installed: `pip install wandb`. Its environment
    # variables (WANDB_API_KEY, WANDB_ENTITY, WANDB_MODE ...) set account, team and mode.
    cfg.WANDB.ENABLED = False
    # Project of W&B, and name of the run; "" for the name of the folder OUTPUT_DIR.
    cfg.WANDB.PROJECT = "pixpro_d2"
    cfg.WANDB.NAME = ""
    _put_back(cfg, existing)


def is_pretraining(cfg: CN) -> bool:
    """Return whether ``cfg`` describes self-supervised pre-training rather than a downstream task."""
    return cfg.MODEL.META_ARCHITECTURE == "PixPro"


def with_values(cfg: CN, values: Mapping[str, Any]) -> CN:
    """Return an unfrozen copy of ``cfg`` with other ``values`` of keys such as ``SOLVER.BASE_LR``."""
    copy = cfg.clone()
    copy.defrost()
    for key, value in values.items():
        set_value(copy, key, value)
    return copy


def _put_back(cfg: CN, existing: CN) -> None:
    """Set all values of ``existing`` in ``cfg`` again, in place."""
    for key, value in existing.items():
        if isinstance(value, CN) and isinstance(cfg.get(key), CN):
            _put_back(cfg[key], value)
        else:
            cfg[key] = value


def _add_model_config(cfg: CN) -> None:
    cfg.MODEL.PIXPRO = CN()
    # The pixel-level pretext task: `pixpro` (consistency), `pixcontrast` (contrast within the other view), `densecl`
    # (contrast with other images) or `slotcon` (grouping of pixels, and contrast of the groups).
    cfg.MODEL.PIXPRO.METHOD = "pixpro"
    # Backbone features that carry a pixel loss: ["res5"] in the official code, ["p3", "p4", "p5", "p6"]
    # for FPN pre-training; [] for the instance branch alone. The losses are averaged over them.
    cfg.MODEL.PIXPRO.IN_FEATURES = ["res5"]
    # Dense head between a pyramid and the projector, pre-trained with it: `none`, `retinanet` (MODEL.RETINANET)
    # or `fcos` (MODEL.FCOS).
    cfg.MODEL.PIXPRO.HEAD = "none"
    # Threshold T on the distance of two bin centres, in units of the larger bin diagonal.
    cfg.MODEL.PIXPRO.POS_RATIO = 0.7
    # Plane in which distances are measured: `normalized` (x by image width, y by image height, as the
    # official code does) or `pixel` (isotropic).
    cfg.MODEL.PIXPRO.DISTANCE_UNITS = "normalized"
    # Compute crop corners as the official code does: the last pixel is inclusive, and with DISTANCE_UNITS
    # `normalized` corners are divided by side - 1.
    cfg.MODEL.PIXPRO.OFFICIAL_ROUNDING = False
    # Images in the mean of the pixpro loss: `all` (official code: an image without a positive pair counts as 0) or
    # `matched` (only images with a positive pair, as in the paper).
    cfg.MODEL.PIXPRO.MEAN_OVER = "all"
    # Start value of the target's momentum, which rises to 1 by a cosine over the run.
    cfg.MODEL.PIXPRO.MOMENTUM = 0.99
    # Weight of METHOD's pixel loss. The terms below, the instance loss and distillation have weights of their own.
    cfg.MODEL.PIXPRO.PIXEL_WEIGHT = 1.0
    # Weights of two VICReg terms (Bardes et al. 2022) on the projections of any METHOD, which keep features from
    # collapsing to few directions. The first term is about each channel's standard deviation over all pixels of the
    # batch, the second about covariances of channels. The papers' recipes use 0; 2.0 and 0.08 help short pre-training.
    cfg.MODEL.PIXPRO.VARIANCE_WEIGHT = 0.0
    cfg.MODEL.PIXPRO.COVARIANCE_WEIGHT = 0.0
    # tau of `pixcontrast` (paper: 0.3), `densecl` and `slotcon` (papers: 0.2).
    cfg.MODEL.PIXPRO.TEMPERATURE = 0.3
    # Normalisation in projector, PPM and instance heads; any name that detectron2's get_norm knows.
    cfg.MODEL.PIXPRO.NORM = "SyncBN"
    # Start every residual block as the identity (last norm's weight 0), as the official code does.
    cfg.MODEL.PIXPRO.ZERO_INIT_RESIDUAL = True
    # Share one projector and one PPM between all IN_FEATURES, which then need equal channels.
    cfg.MODEL.PIXPRO.SHARE_HEADS = True
    # Warn of a collapse when the projections' standard deviation stays below this share of 1 / sqrt(OUT_DIM), for 10
    # readings (SOLVER.METRICS_PERIOD) in a row. Projections that point in all directions have 1 / sqrt(OUT_DIM).
    cfg.MODEL.PIXPRO.COLLAPSE_STD = 0.1

    # Use the memory format channels last in convolutions: faster on GPUs and CPUs, equal up to rounding.
    cfg.MODEL.PIXPRO.CHANNELS_LAST = True
    # Compile the networks of both branches with torch.compile; the first iterations then take minutes.
    cfg.MODEL.PIXPRO.COMPILE = False
    # Compute each stage of the backbone again in the backward pass instead of keeping its activations. Saves memory,
    # but takes about a quarter more time.
    cfg.MODEL.PIXPRO.RECOMPUTE = False

    cfg.MODEL.PIXPRO.PROJECTOR = CN()
    # Hidden and output channels of the projector (4096 and 256 in the official code).
    cfg.MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM = 4096
    cfg.MODEL.PIXPRO.PROJECTOR.OUT_DIM = 256

    cfg.MODEL.PIXPRO.PPM = CN()
    # Put the pixel propagation module at the end of the online branch.
    cfg.MODEL.PIXPRO.PPM.ENABLED = True
    # Sharpness gamma of the similarity, > 0.
    cfg.MODEL.PIXPRO.PPM.GAMMA = 2.0
    # Layers of the value transform g: 0 (identity), 1 or 2.
    cfg.MODEL.PIXPRO.PPM.NUM_LAYERS = 1

    # With INPUT.PIXPRO.N_FRAMES above 1: how to follow pixels from one frame to the other.
    cfg.MODEL.PIXPRO.FLOW = CN()
    # Folder of optical flow by `python -m pixpro_d2.tools.extract_flow`; "" to estimate flow while training.
    cfg.MODEL.PIXPRO.FLOW.FILES = ""
    # Estimator while training: `dis` (on the CPU, no weights), `raft_small` or `raft_large`. WEIGHTS of RAFT: a file,
    # "" for PyTorch's cache, or `random`. The flow has 1 / SCALE of the frames' resolution.
    cfg.MODEL.PIXPRO.FLOW.ESTIMATOR = "dis"
    cfg.MODEL.PIXPRO.FLOW.WEIGHTS = ""
    cfg.MODEL.PIXPRO.FLOW.SCALE = 8
    # Test that flow forward and backward agree at a followed point: `pixel` (Eq. 3 in pixels of the frame), `legacy`
    # (units of the released code, at full resolution as its scripts), `legacy_coarse` (at the flow's resolution) or
    # `none`. ALPHA1 and ALPHA2 (pixels^2) are alpha1 and alpha2 of Eq. 3.
    cfg.MODEL.PIXPRO.FLOW.CONSISTENCY = "pixel"
    cfg.MODEL.PIXPRO.FLOW.ALPHA1 = 0.01
    cfg.MODEL.PIXPRO.FLOW.ALPHA2 = 0.5

    # Dense distillation: projections of each of IN_FEATURES learn a frozen teacher's features at the same places of the
    # image. It works beside METHOD's loss, and alone with PIXEL_WEIGHT 0.
    cfg.MODEL.PIXPRO.DISTILL = CN()
    # Weight of the mean over IN_FEATURES; 0 builds no teacher.
    cfg.MODEL.PIXPRO.DISTILL.WEIGHT = 0.0
    # The teacher: a network of timm, such as `vit_small_patch14_dinov2.lvd142m`; the folder of a run of this project,
    # with any task; or a TorchScript file (.pt, .ts) that turns images with ImageNet's mean and deviation into a map
    # (N, C, h, w), whose code runs. Views are converted to the teacher's mean, deviation and order of channels.
    cfg.MODEL.PIXPRO.DISTILL.TEACHER = ""
    # File of weights for a network of timm, in any format that MODEL.WEIGHTS takes.
    cfg.MODEL.PIXPRO.DISTILL.WEIGHTS = ""
    # Feature of the teacher, such as `res4`; "" for the last one, below an FPN if the teacher has one.
    cfg.MODEL.PIXPRO.DISTILL.FEATURE = ""
    # View that the teacher sees: `other` (bins of the student inside the other view count) or `same`.
    cfg.MODEL.PIXPRO.DISTILL.VIEW = "other"
    # Loss between projections and the teacher's features, whose channels are standardised over the batch: `cosine`
    # (1 - cos) or `smooth_l1`.
    cfg.MODEL.PIXPRO.DISTILL.LOSS = "cosine"

    cfg.MODEL.PIXPRO.INSTANCE = CN()
    # Weight alpha of the instance loss on the backbone's last feature; 0 builds no instance branch.
    cfg.MODEL.PIXPRO.INSTANCE.WEIGHT = 0.0
    # `byol` (official code: predictor, no negatives) or `infonce` (paper's SimCLR*, negatives from all
    # processes).
    cfg.MODEL.PIXPRO.INSTANCE.LOSS = "byol"
    # tau of `infonce` (0.2 in MoCo v2; the PixPro paper does not say).
    cfg.MODEL.PIXPRO.INSTANCE.TEMPERATURE = 0.2

    cfg.MODEL.PIXPRO.DENSECL = CN()
    # Number of pooled keys of other images in the contrast of METHOD `densecl`, for each of IN_FEATURES.
    cfg.MODEL.PIXPRO.DENSECL.QUEUE_SIZE = 65536
    # Weight lambda of the mean of both directions. INSTANCE.WEIGHT weighs the sum of both directions, so the paper's
    # weight 1 - lambda of the image-level loss is INSTANCE.WEIGHT = (1 - lambda) / 2.
    cfg.MODEL.PIXPRO.DENSECL.WEIGHT = 0.5

    cfg.MODEL.PIXPRO.SLOTCON = CN()
    # Number of prototypes of METHOD `slotcon`, shared by all IN_FEATURES: 2048 on ImageNet, 256 on COCO in the paper.
    cfg.MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES = 2048
    # Temperatures of the softmax over the prototypes: of the target's assignment and of the slots of both branches, and
    # of the online branch's assignment.
    cfg.MODEL.PIXPRO.SLOTCON.TARGET_TEMPERATURE = 0.07
    cfg.MODEL.PIXPRO.SLOTCON.ONLINE_TEMPERATURE = 0.1
    # Share of the old centre that is kept at each update; each of IN_FEATURES has its own centre.
    cfg.MODEL.PIXPRO.SLOTCON.CENTER_MOMENTUM = 0.9
    # Weight w of the grouping loss; the contrast of slots has the weight 1 - w.
    cfg.MODEL.PIXPRO.SLOTCON.GROUP_WEIGHT = 0.5
    # Share of a view's pixels that a prototype must win to be contrasted, at least one pixel. With 0.02 this is one
    # of 7 x 7 pixels, as in the authors' code, and 16 of 28 x 28.
    cfg.MODEL.PIXPRO.SLOTCON.MIN_SHARE = 0.02

    # Accept MODEL.WEIGHTS that share only some weights with the backbone; by default this is an error.
    cfg.MODEL.ALLOW_PARTIAL_WEIGHTS = False

    # detectron2's RegNet as a config-built backbone (`build_regnet_backbone`,
    # `build_regnet_fpn_backbone`); the defaults are RegNetX-400MF. Features: stem, s1 .. s4.
    cfg.MODEL.REGNETS = CN()
    # Features that the backbone returns, norm of the backbone, and channels of the stem.
    cfg.MODEL.REGNETS.OUT_FEATURES = ["s4"]
    cfg.MODEL.REGNETS.NORM = "SyncBN"
    cfg.MODEL.REGNETS.STEM_WIDTH = 32
    # Number of blocks d, and w_a, w_0, w_m, group width of the RegNet paper.
    cfg.MODEL.REGNETS.DEPTH = 22
    cfg.MODEL.REGNETS.W_A = 24.48
    cfg.MODEL.REGNETS.W_0 = 24
    cfg.MODEL.REGNETS.W_M = 2.54
    cfg.MODEL.REGNETS.GROUP_WIDTH = 16
    # Squeeze-excitation ratio: 0 for RegNetX, 0.25 for RegNetY.
    cfg.MODEL.REGNETS.SE_RATIO = 0.0

    # A network of timm as a backbone (`build_timm_backbone`, `build_timm_fpn_backbone`,
    # `build_retinanet_timm_fpn_backbone`, `build_fcos_timm_fpn_backbone`). Features: stem (stride 2), res2 (4) .. res5
    # (32), as of a ResNet; last_feat of a plain vision transformer. MODEL.FPN.IN_FEATURES chooses the levels of the
    # pyramid: res3 .. res5 make p3 .. p5. A plain vision transformer gets ViTDet's simple feature pyramid, whose norm
    # is layer norm whatever MODEL.FPN.NORM says.
    cfg.MODEL.TIMM = CN()
    # Name of the network in `timm.list_models()`, such as `convnext_tiny`. Its weights are random, without drop path;
    # MODEL.WEIGHTS reads files of timm.
    cfg.MODEL.TIMM.NAME = ""
    # Features that the backbone returns; [] for all.
    cfg.MODEL.TIMM.OUT_FEATURES = []
    # Stride of the last feature: 8, 16 or 32. Less than 32 dilates the last stages; few networks can do this.
    cfg.MODEL.TIMM.OUTPUT_STRIDE = 32
    # Kind of the network's batch norms, for example `BN` or `FrozenBN`; other norms stay.
    cfg.MODEL.TIMM.NORM = "SyncBN"


def _add_downstream_config(cfg: CN) -> None:
    # Keep the backbone fixed: its parameters are not trained, and its norms keep their running statistics.
    # MODEL.WEIGHTS must hold the whole backbone. An FPN above it is trained.
    cfg.MODEL.BACKBONE.FROZEN = False

    # The `FCNHead`: number of 3x3 convolutions (of CONVS_DIM channels) before the classifier, and their
    # dilation.
    cfg.MODEL.SEM_SEG_HEAD.NUM_CONVS = 2
    cfg.MODEL.SEM_SEG_HEAD.DILATION = 6

    # detectron2's FCOS as the meta-architecture `FCOSDetector`.
    cfg.MODEL.FCOS = CN()
    # Number of classes, features of the head, convolutions in each tower of the head and their norm, and thresholds on
    # score and overlap of detections.
    cfg.MODEL.FCOS.NUM_CLASSES = 80
    cfg.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    cfg.MODEL.FCOS.NUM_CONVS = 4
    cfg.MODEL.FCOS.NORM = "GN"
    cfg.MODEL.FCOS.SCORE_THRESH_TEST = 0.2
    cfg.MODEL.FCOS.NMS_THRESH_TEST = 0.6

    # The meta-architectures `LinearClassifier` and `KNNClassifier` on the globally pooled last feature.
    cfg.MODEL.CLASSIFIER = CN()
    # Classes of the data set.
    cfg.MODEL.CLASSIFIER.NUM_CLASSES = 1000
    # Numbers k of voting neighbours, and temperature of the votes (Wu et al. 2018: 0.07).
    cfg.MODEL.CLASSIFIER.NEIGHBORS = [20, 200]
    cfg.MODEL.CLASSIFIER.TEMPERATURE = 0.07


def _add_input_config(cfg: CN) -> None:
    # Values LOW and HIGH that become black and white in grey images of more than 8 bits, such as [0, 4095] for 12 bits
    # in files of 16 bits; [] for 0 and 65535. Images of 8 bits stay as they are. Use the same range in pre-training and
    # downstream.
    cfg.INPUT.PIXEL_RANGE = []
    cfg.INPUT.PIXPRO = CN()
    # Side of the square views in pixels; with an FPN on a ResNet a multiple of 32.
    cfg.INPUT.PIXPRO.CROP_SIZE = 224
    # Smallest area of a crop as a share of the image, in (0, 1].
    cfg.INPUT.PIXPRO.MIN_SCALE = 0.08
    # Largest area of a crop as a share of the image, from MIN_SCALE to 1.
    cfg.INPUT.PIXPRO.MAX_SCALE = 1.0
    # Least common area of two crops, as a share of the smaller crop, in [0, 1). Crops are drawn again up to 20 times;
    # then the pair with the largest overlap is used.
    cfg.INPUT.PIXPRO.MIN_OVERLAP = 0.0
    # Crops to draw again for MIN_OVERLAP: `both`, or `second` as SlotCon's code does. There the common area is a share
    # of the second crop, which is drawn up to 10 times; then one more crop is used as it comes.
    cfg.INPUT.PIXPRO.REDRAW = "both"
    # Interpolation that resizes a crop: `bilinear` (PixPro) or `bicubic` (SlotCon).
    cfg.INPUT.PIXPRO.INTERPOLATION = "bilinear"
    # Photometric augmentation pair: `byol` (official), `mocov2`, `simclr` or `none`.
    cfg.INPUT.PIXPRO.AUG = "byol"

    # JPEG images whose crops are much larger than the views are decoded at a half, quarter or eighth of their size.
    cfg.INPUT.PIXPRO.DRAFT = True
    # Number of consecutive frames of a video whose first and last frame make the views; 0: both views show one image.
    cfg.INPUT.PIXPRO.N_FRAMES = 0
    # Number of random runs of frames of each video in an epoch.
    cfg.INPUT.PIXPRO.STARTS_PER_VIDEO = 1
    # Probability that the first view shows the later frame; the two views are augmented differently.
    cfg.INPUT.PIXPRO.SWAP_P = 0.0

    # Device of the photometric augmentation of pre-training: `cpu` (in the loader's workers) or `model` (batched, on
    # the model's device).
    cfg.INPUT.AUG_DEVICE = "cpu"

    cfg.INPUT.CLASSIFICATION = CN()
    # Side of the square inputs in pixels. A test input is the centre of an image whose shorter side is RESIZE.
    cfg.INPUT.CLASSIFICATION.CROP_SIZE = 224
    cfg.INPUT.CLASSIFICATION.RESIZE = 256
    # Smallest area of a random training crop as a share of the image, in (0, 1].
    cfg.INPUT.CLASSIFICATION.MIN_SCALE = 0.08

    # Share of the images that `RandomSubsetTrainingSampler` draws from; detectron2 after v0.6 has this key too.
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 1.0
    # Largest share of unreadable images in a pre-training data set; with more, the run stops.
    cfg.DATALOADER.MAX_UNREADABLE = 0.05
    # Seconds for which to retry a file, at growing intervals, when its disk or network mount fails.
    cfg.DATALOADER.RETRY_SECONDS = 60.0
    # Largest number of pixels of a readable image: a small file can claim to hold billions.
    cfg.DATALOADER.MAX_IMAGE_PIXELS = 178956970


def _add_solver_config(cfg: CN) -> None:
    # `SGD`, `LARS` (pre-training) or `AdamW`.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Length of a pre-training or a linear classification in epochs; 0: SOLVER.MAX_ITER counts.
    cfg.SOLVER.MAX_EPOCHS = 0
    # Length of the warm-up in epochs, in the same tasks; 0: SOLVER.WARMUP_ITERS counts.
    cfg.SOLVER.WARMUP_EPOCHS = 0
    # How BASE_LR follows IMS_PER_BATCH: `none`, `linear` or `sqrt`, relative to LR_REFERENCE_BATCH, the batch that
    # BASE_LR belongs to. 0: unknown, only for `none`.
    cfg.SOLVER.LR_SCALING = "none"
    cfg.SOLVER.LR_REFERENCE_BATCH = 0
    # Precision with SOLVER.AMP.ENABLED: `bfloat16`, or on a GPU `float16` with a loss scaler. A processor without
    # instructions for bfloat16 computes in float32.
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    # Allow TensorFloat-32 in float32 products and convolutions on a GPU (a mantissa of 10 bits; bfloat16 has 7).
    # detectron2's FLOAT32_PRECISION decides instead if it exists and is not empty.
    cfg.SOLVER.AMP.TF32 = True
    # Number of equal parts of a process's share of a batch, computed one after the other to save memory. Batch norms,
    # contrast with other images and means over `matched` images then see only one part. SlotCon's centre, and the mean
    # number of objects that divides the losses of RetinaNet and FCOS, move with each part.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Iterations between readings of the losses from the device; each reading waits for the device.
    cfg.SOLVER.METRICS_PERIOD = 20
    # Steps with non-finite gradients are skipped. After this many skipped steps in a row, a reading of the losses stops
    # the run and saves the batch.
    cfg.SOLVER.MAX_SKIPPED_STEPS = 10
    # Minutes after which to save another checkpoint, checked when the losses are read; 0: only CHECKPOINT_PERIOD.
    cfg.SOLVER.CHECKPOINT_MINUTES = 0.0
    # Checkpoints to keep: the last CHECKPOINT_KEEP_LAST (0: all), and the first checkpoint at or after each multiple of
    # CHECKPOINT_KEEP_EVERY iterations (0: no others).
    cfg.SOLVER.CHECKPOINT_KEEP_LAST = 0
    cfg.SOLVER.CHECKPOINT_KEEP_EVERY = 0
    # Last learning rate of WarmupCosineLR. RESCALE_INTERVAL starts its cosine where the warm-up ends, as the official
    # code does. detectron2 after v0.6 has both keys with the same meaning.
    cfg.SOLVER.BASE_LR_END = 0.0
    cfg.SOLVER.RESCALE_INTERVAL = False
