"""Define how the study trains, as data: a recipe for each kind of training."""

from dataclasses import dataclass, replace
from pathlib import Path

from ...config_files import configs_folder

_CHECKOUT = Path(__file__).resolve().parents[3]
# Where the commands of a study run: the checkout, or the current folder if the package is installed without a checkout.
ROOT = _CHECKOUT if configs_folder().parent == _CHECKOUT else Path.cwd()
PRETRAINING_CONFIG = "configs/pretrain/quickstart.yaml"  # for all methods that pre-train on photographs


@dataclass(frozen=True)
class Recipe:
    """Describe a training: its config, options and iterations, and its measured time, to estimate durations.

    Attributes:
        seconds: seconds of an iteration, on one thread of a processor.
        overhead: seconds to start, and to evaluate.
    """

    config: str
    iterations: int
    seconds: float
    overhead: float
    options: dict


@dataclass(frozen=True)
class Scale:
    """Hold the recipes by name, and number, length and size of the rendered videos."""

    recipes: dict
    videos: dict

    def on(self, device: str) -> "Scale":
        """Return a copy whose trainings run on a device (MODEL.DEVICE)."""
        recipes = {
            name: replace(recipe, options={"MODEL.DEVICE": device, **recipe.options})
            for name, recipe in self.recipes.items()
        }
        return Scale(recipes, self.videos)


# Options of all recipes, and of the pre-training recipes.
BRIEF = {"DATALOADER.NUM_WORKERS": 1, "SOLVER.CHECKPOINT_KEEP_LAST": 1}
PRETRAINED = {
    **BRIEF, "SOLVER.MAX_EPOCHS": 0, "SOLVER.WARMUP_EPOCHS": 0, "SOLVER.CHECKPOINT_KEEP_EVERY": 0,
}  # fmt: skip
# The control sees as many images as the methods, in as many steps.
_IMAGES = {**PRETRAINED, "SOLVER.IMS_PER_BATCH": 32, "SOLVER.WARMUP_ITERS": 500, "SOLVER.CHECKPOINT_PERIOD": 1000}
_STRIDE_16 = {"MODEL.RESNETS.OUT_FEATURES": '["res4"]'}
_DETECTOR = "configs/voc/faster_rcnn_R_18_FPN_small.yaml"

STUDY = Scale(
    recipes={
        "images": Recipe(PRETRAINING_CONFIG, 10000, 0.75, 20, {**_IMAGES, "INPUT.PIXPRO.CROP_SIZE": 64}),
        "labels": Recipe("configs/classification/resnet_R_18_small.yaml", 10000, 0.24, 20, _IMAGES),
        "video": Recipe(
            "configs/pretrain/pixpro_video_quickstart.yaml", 300, 0.57, 20,
            {
                **PRETRAINED, **_STRIDE_16, "MODEL.BACKBONE.NAME": "build_resnet_backbone",
                "MODEL.PIXPRO.IN_FEATURES": '["res4"]', "SOLVER.WARMUP_ITERS": 30,
            },
        ),
        "objects": Recipe(
            _DETECTOR, 400, 0.27, 30,
            {
                **BRIEF, "INPUT.MIN_SIZE_TRAIN": "(96,)", "INPUT.MIN_SIZE_TEST": 96,
                "MODEL.ANCHOR_GENERATOR.SIZES": "[[12], [24], [48], [96]]",
                # An image with one object needs fewer proposals.
                "MODEL.RPN.POST_NMS_TOPK_TRAIN": 100, "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
                # An early decay ends in 0.1 AP from random weights, with 20 images a class. Without a decay, random
                # weights have 0.5 AP after 300 iterations, and the control 4.3 AP.
                "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32, "SOLVER.STEPS": "(350,)",
                "SOLVER.CHECKPOINT_PERIOD": 150,
            },
        ),
        "scenes": Recipe(
            "configs/semseg/fpn_R_18_small.yaml", 200, 0.5, 20, {**BRIEF, "SOLVER.CHECKPOINT_PERIOD": 100},
        ),
        "cells": Recipe(
            _DETECTOR, 120, 0.8, 30, {**BRIEF, "SOLVER.STEPS": "(80, 108)", "SOLVER.CHECKPOINT_PERIOD": 60},
        ),
        "driving": Recipe(
            "configs/cityscapes/fcn_R_50_90k_random.yaml", 450, 0.2, 25,
            {
                **BRIEF, **_STRIDE_16, "MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
                # Nine tenths of a rendered video are background: crops of nothing else, or a lower rate, and short
                # trainings learn the background alone.
                "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.9, "SOLVER.BASE_LR": 0.1, "MODEL.RESNETS.RES5_DILATION": 1,
                "MODEL.SEM_SEG_HEAD.IN_FEATURES": '["res4"]', "MODEL.SEM_SEG_HEAD.CONVS_DIM": 128,
                "MODEL.SEM_SEG_HEAD.DILATION": 1, "INPUT.MIN_SIZE_TRAIN": "(96, 192)", "INPUT.MAX_SIZE_TRAIN": 384,
                "INPUT.MIN_SIZE_TEST": 128, "INPUT.MAX_SIZE_TEST": 256, "INPUT.CROP.SIZE": "[96, 96]",
                "SOLVER.IMS_PER_BATCH": 8, "SOLVER.STEPS": "(300, 405)",
                "SOLVER.WARMUP_ITERS": 15, "SOLVER.CHECKPOINT_PERIOD": 150,
            },
        ),
    },
    videos={"videos": 32, "frames": 12, "size": (128, 256)},
)  # fmt: skip
