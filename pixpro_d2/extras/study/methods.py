"""Define what the study compares, as data: pre-training methods, downstream tasks, and the questions that pair them."""

from dataclasses import dataclass

RANDOM = "random"  # the initialisation without a pre-training
CONTROL = "supervised"  # the positive control: labels of the photographs instead of a pretext task
LEAST_GAIN = 3.0  # gain of the control over random weights, in points of the metric, that lets a task judge

# Weights of the terms against low-rank features: zero as in the papers, and values that help short pre-training.
NO_TERM = {"MODEL.PIXPRO.VARIANCE_WEIGHT": 0.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT": 0.0}
TERM = {"MODEL.PIXPRO.VARIANCE_WEIGHT": 2.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT": 0.08}
CONTRAST = {"MODEL.PIXPRO.METHOD": "pixcontrast", "MODEL.PIXPRO.TEMPERATURE": 0.3, "MODEL.PIXPRO.PPM.ENABLED": False}
# As in configs/pretrain/slotcon_quickstart.yaml, which has the terms too.
SLOTS = {
    "MODEL.PIXPRO.METHOD": "slotcon", "MODEL.PIXPRO.IN_FEATURES": '["p3", "p4", "p5"]',
    "MODEL.PIXPRO.TEMPERATURE": 0.2, "MODEL.PIXPRO.PPM.ENABLED": False, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES": 64,
    "INPUT.PIXPRO.MIN_OVERLAP": 0.01, "INPUT.PIXPRO.REDRAW": "second",
}  # fmt: skip
# The learning rate leaves float32 weights unchanged. The statistics of the normalisation layers adapt, and a frozen
# backbone keeps them.
UNTRAINED = {
    "INPUT.PIXPRO.N_FRAMES": 1, "SOLVER.BASE_LR": 1e-12, "SOLVER.BASE_LR_END": 0.0, "SOLVER.MAX_ITER": 100,
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """Describe a pre-training method: its title in the report, its recipe, and the options that distinguish it."""

    title: str
    recipe: str
    options: dict


METHODS = {
    "pixpro": Method("PixPro as in the paper", "images", NO_TERM),
    "pixpro_term": Method("PixPro with the terms", "images", TERM),
    "term_alone": Method("the terms alone", "images", {**TERM, "MODEL.PIXPRO.PIXEL_WEIGHT": 0.0}),
    "pixcontrast": Method("PixContrast", "images", {**NO_TERM, **CONTRAST}),
    "slotcon_term": Method("SlotCon with the terms", "images", {**TERM, **SLOTS}),
    CONTROL: Method("labels (control)", "labels", {}),
    "untrained": Method("random, norms adapted", "video", UNTRAINED),
    "video1": Method("PixPro, one frame", "video", {"INPUT.PIXPRO.N_FRAMES": 1}),
    "video6": Method("PixPro, six frames", "video", {"INPUT.PIXPRO.N_FRAMES": 6}),
}


@dataclass(frozen=True)
class Task:
    """Describe a downstream task: its metric, its unit in the report, the kind of its variants, and their titles."""

    metric: str
    unit: str
    kind: str
    variants: dict


TASKS = {
    "objects": Task(
        "bbox/AP", "AP", "labels", {"5": "5 images a class", "20": "20 images a class", "all": "all images"}
    ),
    "scenes": Task("sem_seg/mIoU", "mIoU", "labels", {"all": "all images"}),
    "cells": Task("bbox/AP", "AP", "labels", {"20": "20 images", "all": "all images"}),
    "driving": Task("sem_seg/IoU", "mIoU", "backbone", {"frozen": "frozen backbone", "tuned": "fine-tuned"}),
}


@dataclass(frozen=True)
class Part:
    """Describe a question.

    Attributes:
        title: title of its section in the report.
        task: key of TASKS.
        variants: initialisations to compare by the variant of the task; gains are over the first initialisation.
        note: further differences between these initialisations, or their origin.
    """

    title: str
    task: str
    variants: dict
    note: str


_OF_PHOTOGRAPHS = (RANDOM, "pixpro", "pixpro_term", "term_alone", "pixcontrast", "slotcon_term", CONTROL)
_NO_PYRAMID = """The control trains no feature pyramid,
so the pyramid begins with random weights in its fine-tuning."""

PARTS = {
    "objects": Part(
        "Objects in photographs",
        "objects",
        dict.fromkeys(("5", "20", "all"), _OF_PHOTOGRAPHS),
        f"Detectors of the kind of photographs that the pre-training has seen. {_NO_PYRAMID}",
    ),
    "scenes": Part(
        "Segmentation of scenes",
        "scenes",
        {"all": _OF_PHOTOGRAPHS},
        f"A head on the pre-trained pyramid, few labelled photographs of everyday scenes. {_NO_PYRAMID}",
    ),
    "cells": Part(
        "Blood cells, out of domain",
        "cells",
        dict.fromkeys(("20", "all"), _OF_PHOTOGRAPHS),
        f"Detectors on images of a kind that the pre-training has never seen. {_NO_PYRAMID}",
    ),
    "video": Part(
        "Rendered video, one frame or six",
        "driving",
        {"frozen": ("untrained", "video1", "video6"), "tuned": (RANDOM, "video1", "video6")},
        "The videos of the pre-training are others than those with labels. On a frozen backbone the head alone is\n"
        "trained; a random one has, as a pre-trained one, norms with the statistics of the videos.",
    ),
}
