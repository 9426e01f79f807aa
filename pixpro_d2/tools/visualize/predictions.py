"""The sub-command that shows what downstream models predict."""

from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data import ensure_registered
from ...data.datasets.semseg import IGNORE_LABEL, read_label
from ...data.inspection import task_of
from ...data.reader import read_image
from ...engine.trainer import Trainer
from ...errors import UsageError
from ...visualization.canvas import MARGIN
from ...visualization.detections import draw_detections
from ...visualization.predictions import draw_segmentations
from ...visualization.sheet import WIDTH
from .inputs import first_readable, load_pictures_config, name_of, write_picture

# meta-architecture -> labels that its data sets have, as of task_of
TASKS = dict.fromkeys(("GeneralizedRCNN", "RetinaNet", "FCOSDetector"), "detection")
TASKS["SemanticSegmentor"] = "segmentation"
SIDE = 380  # longer side of an image at most, pixels


def predictions(args):
    """Detections or segmentation of one or several models beside the ground truth."""
    cfg = load_pictures_config(args)
    task = TASKS.get(cfg.MODEL.META_ARCHITECTURE)
    if task is None:
        raise UsageError(
            f"MODEL.META_ARCHITECTURE of {args.config_file} is {cfg.MODEL.META_ARCHITECTURE}, whose predictions are no "
            f"pictures: take a config of {', '.join(TASKS)}."
        )
    name = args.input or next(iter(cfg.DATASETS.TEST), None)
    images = _labelled(name, task)
    cfg.DATALOADER.NUM_WORKERS = 0
    inputs = Trainer.build_test_loader(cfg, name).dataset  # in the order of the images
    models = {title: _load(cfg, path) for title, path in titles(args.weights).items()}
    draw = {"detection": _draw_boxes, "segmentation": _draw_classes}[task]

    def picture(number, image):
        pixels = read_image(image["file_name"])
        found = {title: predict(model, inputs[number]) for title, model in models.items()}
        return draw(args, pixels, image, found, MetadataCatalog.get(name))

    for number, image, drawn in first_readable(args, images, picture):
        write_picture(args, drawn, name_of(number, image))


@torch.no_grad()
def predict(model, sample):
    """What a model in eval mode says of one sample of a test loader."""
    return model([sample])[0]


def _labelled(name, task):
    """Dataset dicts of a data set with the labels of a task."""
    if name is None:
        raise UsageError("DATASETS.TEST is empty: name a labelled data set by --input, such as voc:DIR@test.")
    ensure_registered([name])
    images = DatasetCatalog.get(name)
    if not images or task_of(images[0]) != task:
        raise UsageError(f"Data set '{name}' has no labels of {task}, which this config's predictions stand beside.")
    return images


def _load(cfg, path):
    """The model with the weights of a file, in eval mode."""
    model = Trainer.build_model(cfg)
    Trainer.build_checkpointer(cfg, model).resume_or_load(path, resume=False)
    return model.eval()


def titles(paths):
    """Paths by the name of their folder, and of their file where that is not enough; dict[str, str]."""
    folders = [Path(path).absolute().parent.name for path in paths]
    return {
        folder if folders.count(folder) == 1 else f"{folder}/{Path(path).stem}": path
        for folder, path in zip(folders, paths)
    }


def _draw_boxes(args, pixels, image, found, metadata):
    detections = {title: output["instances"] for title, output in found.items()}
    return draw_detections(
        pixels, image["annotations"], detections, metadata.thing_classes, args.min_score, _side(1 + len(found))
    )


def _draw_classes(args, pixels, image, found, metadata):
    maps = {title: output["sem_seg"].argmax(dim=0).cpu().numpy() for title, output in found.items()}
    truth = read_label(image["sem_seg_file_name"])
    ignored = metadata.get("ignore_label", IGNORE_LABEL)
    return draw_segmentations(pixels, truth, maps, metadata.stuff_classes, ignored, _side(2 + len(found)))


def _side(panels):
    """Longer side of an image in a row of ``panels``, pixels."""
    return min(SIDE, (WIDTH - MARGIN) // panels - MARGIN)
