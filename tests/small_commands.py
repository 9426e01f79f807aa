"""A folder in which the commands of the documentation run as a reader's would, made small and on rendered data."""

import contextlib
import os
import shutil
from pathlib import Path

import cli
import downstream
import numpy as np
from archive_helpers import write_shards, write_zip
from detectron2.data import DatasetCatalog, MetadataCatalog
from documentation_helpers import ROOT, check, module_of
from downstream import CITYSCAPES, CLASSES, COCO, FCOS, PNG, RCNN, RETINANET, VOC, VOC_SEG
from video_helpers import write_video

import configs
from pixpro_d2.config import is_pretraining
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.extras.scenes.video_scene import render_clip

KNN = [*CLASSES, "MODEL.CLASSIFIER.NEIGHBORS", "[1, 3]"]
# start of a data set's name -> ((train, test), options) that take its place
DATA = {
    "voc_2012_sem_seg": VOC_SEG,
    "voc_seg": VOC_SEG,
    "voc": VOC,
    "coco": [*COCO, *VOC[1:], *RETINANET, *FCOS],
    "cityscapes_fine_instance": [("cityscapes_instance:{}@train", "cityscapes_instance:{}@val"), *RCNN],
    "cityscapes": CITYSCAPES,
    "semseg": PNG,
    "bdd100k_sem_seg": PNG,
    "imagenet": KNN,
    "classes": KNN,
}
WIDE = ("model_final.pth", "official.pth")  # what the pages convert to torchvision's formats must have its widths
IMAGES, VIDEO = "images:my_photos", "video:datasets/bdd100k/images/train"
SUB_COMMANDS = ("benchmark", "visualize")  # tools that have them
# tool and its sub-command -> option -> value, which takes the place of the page's or is added
TOOLS = {
    "benchmark step": {"--batch": 2, "--repeats": 1, "--warmup": 0},
    "benchmark data": {"--count": 2, "--repeats": 1},
    "benchmark loader": {"--batch": 2, "--seconds": 0.01},
    "embed": {"--size": 64},
    "extract_flow": {"--estimator": "dis", "--device": "cpu"},
    "flow_quality": {"--videos": 1, "--frames": 7, "--size": "64x96", "--views": 2},
    "measure": {"--count": 2},
    "prepare_video": {"--workers": 1},
    "render": {"--train": 2, "--test": 1, "--size": 64},
    "render_video": {"--videos": 1, "--frames": 3, "--size": "64x96"},
    **{f"visualize {what}": {"--count": 1} for what in ("pairs", "flow", "attention")},
    **{f"visualize {what}": {"--count": 2} for what in ("features", "matches", "predictions")},
}
# Tools that have a test of their own which runs them as they are.
TESTED = ("demo", "benchmark_gpu", "study", "install_detectron2", "completion")
# module of a command -> KEY, VALUE, ... that make it small
COMMANDS = {
    "commands.pretrain": ["MODEL.FPN.OUT_CHANNELS", 32, *configs.TINY, "SOLVER.MAX_ITER", 2],
    "commands.finetune": [*configs.TINY_DETECTOR, *downstream.CROP],
}


def why_not_run(command):
    """Why a command is only checked; "" for one that is run."""
    cfg = check(command)[1]
    if "..." in command.argv:
        return "something is left to fill in"
    if command.launcher or "--num-machines" in command.argv:
        return "several machines or a launcher"
    if cfg is not None and ("://" in cfg.MODEL.WEIGHTS or cfg.MODEL.PIXPRO.DISTILL.WEIGHTS):
        return "weights to download"
    if command.tool in TESTED or {"--compare", "onnx"} & set(command.argv):
        return "has a test of its own"
    return ""


def render_data(path):
    """Images in all layouts, and videos, for :func:`reader_folder`."""
    render_dataset(path / "scenes", train=6, test=2, size=96, layouts=("voc", "coco", "cityscapes", "classes"))
    splits = path / "scenes" / "ImageSets" / "Main"
    shutil.copy(splits / "train.txt", splits / "trainval.txt")
    frames = render_clip(np.random.default_rng(0), 20, 96, 128).frames
    for name in ("east", "west"):
        write_video(path / "videos" / f"{name}.mp4", [frame[:, :, ::-1] for frame in frames], 10)


@contextlib.contextmanager
def reader_folder(path, data):
    """Work in the folder ``path``, which gets what the pages call the reader's own, out of :func:`render_data`'s."""
    (path / "bdd100k" / "videos").mkdir(parents=True)
    coco = path / "datasets/coco/annotations"
    coco.mkdir(parents=True)
    shutil.copy(data / "scenes/annotations/train.json", coco / "instances_train2017.json")
    for name, target in {
        "configs": ROOT / "configs",
        "scenes": data / "scenes",
        "my_photos": data / "scenes/JPEGImages",
        "held_out": data / "scenes/JPEGImages",
        "my_data": data / "scenes",
        "my_videos": data / "videos",
        "bdd100k/videos/train": data / "videos",
        "model_final.pth": "output/wide/pixpro_c5_100ep/model_final.pth",
    }.items():
        (path / name).symlink_to(target)
    write_zip(path / "my_photos.zip", data / "scenes/JPEGImages")
    write_shards(path / "shards", data / "scenes/JPEGImages", 4)
    before, home = set(DatasetCatalog.list()), os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(home)
        shutil.rmtree(path / "output", ignore_errors=True)  # gigabytes
        for name in set(DatasetCatalog.list()) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)


def run(command):
    """Run the small form of a command, after the pre-training whose checkpoint it names, where that is not there."""
    cfg = check(command)[1]
    for word in [*command.argv, cfg.MODEL.WEIGHTS if cfg is not None else ""]:
        _pretrain(word)
    argv = [VIDEO if word == "bdd100k_video_train" else word for word in command.argv]
    first = 1 if command.tool in SUB_COMMANDS else 0  # place of the first option
    for option, value in TOOLS.get(" ".join([command.tool, *argv[:first]]), {}).items():
        if option in argv:
            argv[argv.index(option) + 1] = str(value)
        else:
            argv[first:first] = [option, str(value)]
    if cfg is not None:
        argv += cli.option_list(small_options(cfg, cfg.MODEL.WEIGHTS not in WIDE))
    argv += cli.option_list(COMMANDS.get(command.tool, ()))
    _call(command.tool, argv)


def _call(tool, argv):
    try:
        module_of(tool).main(argv) if tool else cli.run_here(*argv)
    except SystemExit as end:
        assert not end.code, end.code


def _pretrain(checkpoint):
    """Make a checkpoint that is called as a config of configs/pretrain writes it, if it does not exist."""
    path = Path(checkpoint).resolve()
    config = f"configs/pretrain/{path.parent.name}.yaml"
    if checkpoint == "official.pth" and not path.exists():
        _pretrain("model_final.pth")
        _call("convert", ["model_final.pth", "official.pth", "--to", "official"])
    if path.name == "model_final.pth" and not path.exists() and (ROOT / config).is_file():
        cfg = load_config(str(ROOT / config), [])
        options = small_options(cfg, path.parent.parent.name != "wide")
        _call("", ["--config-file", config, *cli.option_list(options), "OUTPUT_DIR", str(path.parent)])


def small_options(cfg, narrow=True):
    """KEY, VALUE, ... that make a config small and take rendered data where it names a known data set.

    Args:
        narrow (bool): whether the layers of a deep ResNet get few channels.
    """
    [name, *_] = cfg.DATASETS.TRAIN or [""]
    options = configs.NARROW if narrow and cfg.MODEL.RESNETS.DEPTH > 34 else ["MODEL.FPN.OUT_CHANNELS", 32]
    if is_pretraining(cfg):
        options = [*configs.TINY, *options, "SOLVER.MAX_ITER", 2, "INPUT.PIXPRO.STARTS_PER_VIDEO", 2]
        return options if ":" in name else [*options, "DATASETS.TRAIN", str((VIDEO if "video" in name else IMAGES,))]
    [(train, test), *rest] = next((data for start, data in DATA.items() if name.startswith(start)), DATA["voc"])
    small = downstream.options("scenes", (train, test), *rest)
    return [*options, *(small[4:] if ":" in name else small)]
