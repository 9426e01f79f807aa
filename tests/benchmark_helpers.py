"""Small measured configs."""

import configs
from pixpro_d2.extras.benchmark.step import measured_config

RESNET18 = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
C5, FPN = "pretrain/pixpro_c5_100ep.yaml", "pretrain/quickstart.yaml"


def config_file(config):
    """Path of a config."""
    return str(configs.CONFIGS / config)


def measured(config, *opts, batch=4, **kwargs):
    """A tiny ``measured_config`` on the CPU; R18-FPN, or R18 with a loss on C5."""
    options = [str(option) for option in (*configs.TINY, *RESNET18, *opts)]
    return measured_config(config_file(config), options, "cpu", batch, **kwargs)
