"""What the study trains, as data: methods to pre-train with, recipes at two scales, and the parts of the study."""

from dataclasses import dataclass

RANDOM = "random"  # the initialisation without a pre-training
C5 = {"MODEL.BACKBONE.NAME": "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES": '["res5"]'}
INSTANCE = {"MODEL.PIXPRO.INSTANCE.WEIGHT": 1.0, "MODEL.PIXPRO.INSTANCE.LOSS": "infonce"}
# A rate that leaves float32 weights as they were drawn; the norms' statistics, which a frozen backbone keeps, adapt.
UNTRAINED = {
    "INPUT.PIXPRO.N_FRAMES": 1, "SOLVER.BASE_LR": 1e-12, "SOLVER.BASE_LR_END": 0.0, "SOLVER.MAX_ITER": 100,
}  # fmt: skip
CONTRAST = {"MODEL.PIXPRO.METHOD": "pixcontrast", "MODEL.PIXPRO.TEMPERATURE": 0.3, "MODEL.PIXPRO.PPM.ENABLED": False}


@dataclass(frozen=True)
class Method:
    """A way to pre-train: what the report calls it, the recipe it takes, and the options that make the difference."""

    title: str
    recipe: str
    options: dict


METHODS = {
    "pixpro": Method("PixPro on P3-P6", "images", {}),
    "pixcontrast": Method("PixContrast on P3-P6", "images", CONTRAST),
    "pixpro_c5": Method("PixPro on C5", "images", {**C5, "MODEL.PIXPRO.IN_FEATURES": '["res5"]'}),
    "simclr_star": Method("instance only (SimCLR*)", "images", {**C5, "MODEL.PIXPRO.IN_FEATURES": "[]", **INSTANCE}),
    "untrained": Method("random, norms adapted", "video", UNTRAINED),
    "video1": Method("PixPro, one frame", "video", {"INPUT.PIXPRO.N_FRAMES": 1}),
    "video6": Method("PixPro, six frames", "video", {"INPUT.PIXPRO.N_FRAMES": 6}),
}


@dataclass(frozen=True)
class Part:
    """A question.

    Attributes:
        title (str): of its section in the report.
        task (str): key of TASKS.
        variants (dict): variant of the task to the initialisations compared on it; gains are over the first of them.
        note (str): what else these initialisations differ in, or how they were made.
    """

    title: str
    task: str
    variants: dict
    note: str


NO_PYRAMID = """SimCLR* and PixPro on C5 pre-train no feature pyramid, so its weights are random in the detector.
SimCLR* against PixPro on P3-P6 differs in this too; against PixPro on C5 it does not."""
SHARED_RECIPE = """SimCLR* takes the batch and the rates of PixPro's recipe, which are not tuned for it: its negatives
are the other images of this batch alone."""

PARTS = {
    "labels": Part(
        "Few labels",
        "detection",
        {
            "5": (RANDOM, "simclr_star", "pixpro"),
            "20": (RANDOM, "simclr_star", "pixpro_c5", "pixpro"),
            "all": (RANDOM, "simclr_star", "pixpro"),
        },
        f"{NO_PYRAMID}\n{SHARED_RECIPE}",
    ),
    "methods": Part(
        "Pixels or whole images",
        "detection",
        {"20": (RANDOM, "simclr_star", "pixpro_c5", "pixcontrast", "pixpro")},
        f"{NO_PYRAMID}\n{SHARED_RECIPE}",
    ),
    "levels": Part(
        "P3-P6 or C5",
        "detection",
        {"20": (RANDOM, "pixpro_c5", "pixpro")},
        "PixPro on C5 pre-trains no feature pyramid, so its weights are random in the detector.",
    ),
    "video": Part(
        "Driving video, one frame or six",
        "segmentation",
        {"frozen": ("untrained", "video1", "video6"), "tuned": (RANDOM, "video1", "video6")},
        "The videos of the pre-training are others than those with labels. On a frozen backbone the head alone is\n"
        "trained; a random one has, as a pre-trained one, norms with the statistics of the videos.",
    ),
}


@dataclass(frozen=True)
class Task:
    """A task to fine-tune on: the result that counts, what the report calls it and the variants."""

    metric: str
    unit: str
    variants: dict


TASKS = {
    "detection": Task("bbox/AP", "AP", {"5": "5 images", "20": "20 images", "all": "all images"}),
    "segmentation": Task("sem_seg/IoU", "mIoU", {"frozen": "frozen backbone", "tuned": "fine-tuned"}),
}


@dataclass(frozen=True)
class Recipe:
    """A training: config, options, number of iterations, and the time of it, measured once, for the estimate.

    Attributes:
        seconds (float): of an iteration.
        overhead (float): seconds to start, and to evaluate.
    """

    config: str
    iterations: int
    seconds: float
    overhead: float
    options: dict


@dataclass(frozen=True)
class Scale:
    """The recipes for one size of machine, by name, and number, length and size of the rendered videos."""

    recipes: dict
    videos: dict


_PRETRAINED = {
    "SOLVER.MAX_EPOCHS": 0,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.CHECKPOINT_KEEP_LAST": 1,
    "SOLVER.CHECKPOINT_KEEP_EVERY": 0,
}
_SMALL = {"MODEL.DEVICE": "cpu", "DATALOADER.NUM_WORKERS": 1}
_SMALL_RESNET = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
_STRIDE_16 = {"MODEL.RESNETS.OUT_FEATURES": '["res4"]'}
# Nine tenths of a rendered video are background: crops of nothing else, or a lower rate, and short trainings learn that
# alone.
_SEGMENTED = {"INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.9, "SOLVER.BASE_LR": 0.1}

# Two CPU cores: ResNet-18, views of 96 pixels.
CPU = Scale(
    recipes={
        "images": Recipe(
            "configs/pretrain/quickstart.yaml", 480, 0.87, 20,
            {**_SMALL, **_PRETRAINED, "SOLVER.WARMUP_ITERS": 40},
        ),
        "video": Recipe(
            "configs/pretrain/pixpro_video_quickstart.yaml", 300, 0.57, 20,
            {
                **_SMALL, **_PRETRAINED, **_STRIDE_16, "MODEL.BACKBONE.NAME": "build_resnet_backbone",
                "MODEL.PIXPRO.IN_FEATURES": '["res4"]', "SOLVER.WARMUP_ITERS": 30,
            },
        ),
        "detection": Recipe(
            "configs/voc/faster_rcnn_R_18_FPN_small.yaml", 120, 1.1, 35,
            {**_SMALL, "SOLVER.STEPS": "(80, 108)", "SOLVER.CHECKPOINT_PERIOD": 60, "SOLVER.CHECKPOINT_KEEP_LAST": 1},
        ),
        "segmentation": Recipe(
            "configs/cityscapes/fcn_R_50_90k_random.yaml", 450, 0.2, 25,
            {
                **_SMALL, **_SMALL_RESNET, **_STRIDE_16, **_SEGMENTED, "MODEL.RESNETS.RES5_DILATION": 1,
                "MODEL.SEM_SEG_HEAD.IN_FEATURES": '["res4"]', "MODEL.SEM_SEG_HEAD.CONVS_DIM": 128,
                "MODEL.SEM_SEG_HEAD.DILATION": 1, "INPUT.MIN_SIZE_TRAIN": "(96, 192)", "INPUT.MAX_SIZE_TRAIN": 384,
                "INPUT.MIN_SIZE_TEST": 128, "INPUT.MAX_SIZE_TEST": 256, "INPUT.CROP.SIZE": "[96, 96]",
                "SOLVER.IMS_PER_BATCH": 8, "SOLVER.STEPS": "(300, 405)",
                "SOLVER.WARMUP_ITERS": 15, "SOLVER.CHECKPOINT_PERIOD": 150, "SOLVER.CHECKPOINT_KEEP_LAST": 1,
            },
        ),
    },
    videos={"videos": 32, "frames": 12, "size": (128, 256)},
)  # fmt: skip

# One GPU: ResNet-50, views of 224 pixels.
GPU = Scale(
    recipes={
        "images": Recipe(
            "configs/pretrain/pixpro_fpn.yaml", 4000, 0.5, 60,
            {
                **_PRETRAINED, "SOLVER.IMS_PER_BATCH": 128, "SOLVER.WARMUP_ITERS": 200,
                "SOLVER.CHECKPOINT_PERIOD": 500, "MODEL.PIXPRO.MOMENTUM": 0.97,
            },
        ),
        "video": Recipe(
            "configs/pretrain/pixpro_bdd100k_1frames_2000ep.yaml", 4000, 0.4, 60,
            {
                **_PRETRAINED, "SOLVER.IMS_PER_BATCH": 128, "SOLVER.WARMUP_ITERS": 200,
                "SOLVER.CHECKPOINT_PERIOD": 500, "MODEL.PIXPRO.MOMENTUM": 0.97, "INPUT.PIXPRO.STARTS_PER_VIDEO": 64,
            },
        ),
        "detection": Recipe(
            "configs/voc/faster_rcnn_R_50_FPN_24k_random.yaml", 1000, 0.35, 90,
            {
                "INPUT.MIN_SIZE_TRAIN": "(480,)", "INPUT.MIN_SIZE_TEST": 480, "SOLVER.STEPS": "(700, 900)",
                "SOLVER.CHECKPOINT_PERIOD": 500, "SOLVER.CHECKPOINT_KEEP_LAST": 1,
            },
        ),
        "segmentation": Recipe(
            "configs/cityscapes/fcn_R_50_90k_random.yaml", 1000, 0.25, 60,
            {
                **_SEGMENTED, "INPUT.MIN_SIZE_TRAIN": "(192, 512)", "INPUT.MAX_SIZE_TRAIN": 1024,
                "INPUT.MIN_SIZE_TEST": 256, "INPUT.MAX_SIZE_TEST": 512, "INPUT.CROP.SIZE": "[192, 192]",
                "SOLVER.STEPS": "(700, 900)", "SOLVER.CHECKPOINT_PERIOD": 500, "SOLVER.CHECKPOINT_KEEP_LAST": 1,
            },
        ),
    },
    videos={"videos": 128, "frames": 20, "size": (256, 512)},
)  # fmt: skip

SCALES = {"cpu": CPU, "gpu": GPU}
