"""Folders as training leaves them, written by hand."""

import json

import yaml
from PIL import Image

from pixpro_d2.monitoring.run_record import record_start

CONFIG = {
    "DATASETS": {"TRAIN": ["images:photos"]},
    "MODEL": {
        "META_ARCHITECTURE": "PixPro",
        "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
        "RESNETS": {"DEPTH": 18},
        "PIXPRO": {
            "METHOD": "pixpro",
            "IN_FEATURES": ["p3", "p4"],
            "COLLAPSE_STD": 0.1,
            "PROJECTOR": {"OUT_DIM": 64},
            "PPM": {"ENABLED": True},
        },
    },
    "SOLVER": {"MAX_ITER": 200, "IMS_PER_BATCH": 16},
    "OUTPUT_DIR": "somewhere",
}

LOG = """\
[11/21 18:40:50] pixpro_d2.data.pretrain.loader WARNING: Skipped an unreadable image (1 so far): a.jpg
[11/21 18:40:51] pixpro_d2.data.pretrain.loader WARNING: Skipped an unreadable image (2 so far): a.jpg
[11/21 18:41:02] d2.utils.events INFO:  eta: 0:02:25  iter: 19  total_loss: -1.051  lr: 0.03185  max_mem: 512M
[11/21 18:41:04] d2.utils.events INFO:  eta: 0:02:25  iter: 39  total_loss: -1.051  lr: 0.03185  max_mem: 2048M
"""


COMMAND = "python train_net.py --config-file configs/a.yaml --num-gpus 2 DATASETS.TRAIN \"('images:photos',)\" SEED 0"
MACHINE = {"platform": "linux", "torch": "2.6.0"}


def healthy_lines(count=10, **more):
    """Lines of metrics.json, dicts, of a pre-training that goes well; ``more`` are values, or functions of the
    line's number, by name with __ for the slash."""
    lines = []
    for i in range(count):
        line = {
            "iteration": 20 * i + 19,
            "total_loss": -0.5 - 0.3 * i,
            "loss_pix_p3": -0.25 - 0.15 * i,
            "loss_pix_p4": -0.25 - 0.15 * i,
            "feature_std/p3": 0.1,
            "feature_std/p4": 0.12,
            "images_without_pair/p3": 0.0,
            "positive_pairs/p3": 90 + i,
            "ema_momentum": 0.99,
            "skipped_steps": 3,
            "max_mem": 2048.0,
            "lr": 0.1,
            "time": 0.5,
            "data_time": 0.05,
            "eta_seconds": 3,
        }
        line |= {name.replace("__", "/"): value(i) if callable(value) else value for name, value in more.items()}
        lines.append(line)
    return lines


def write_run(folder, lines=(), config=CONFIG, log=LOG, pictures=(), command=COMMAND, machine=MACHINE):
    """Write a run's folder; ``pictures`` are (file name, colour). Returns the folder."""
    (folder / "vis").mkdir(parents=True)
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "log.txt").write_text(log)
    if command:
        record_start(folder, command, machine)
    for name, colour in pictures:
        Image.new("RGB", (60, 40), colour).save(folder / "vis" / name)
    return folder
