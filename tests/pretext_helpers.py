"""Small models of two levels, and their evaluation on a folder of images."""

import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered

LEVELS = ["p3", "p4"]


def config(folder, *opts):
    """Config that is evaluated on the images of ``folder``."""
    name = f"images:{folder}"
    ensure_registered([name])
    return configs.tiny("DATASETS.TEST", (name,), "MODEL.PIXPRO.IN_FEATURES", LEVELS, *opts)


def build(cfg):
    torch.manual_seed(0)
    return build_model(cfg).train()
