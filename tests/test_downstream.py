"""Every downstream recipe, from a pre-training checkpoint, on rendered data: train, evaluate, evaluate again.

In one process, through the same functions as train_net.py, because importing PyTorch for each would take longer than
the runs.
"""

import cli
import pytest
from data_helpers import logged
from downstream import CITYSCAPES, CLASSES, COCO, FCOS, PNG, RCNN, RETINANET, VOC, VOC_SEG, options
from rendering import render_once

import configs

pytestmark = pytest.mark.slow

# recipe, with a start other than its own -> (pre-training config, task and metric, (train, test), options)
RUNS = {
    "voc/faster_rcnn_R_50_C4_24k": ("c5", "bbox/AP50", *VOC),
    "voc/faster_rcnn_R_50_FPN_24k": ("fpn", "bbox/AP50", *VOC),
    "voc/fcn_R_50_30k": ("c5", "sem_seg/mIoU", *VOC_SEG),
    "coco/mask_rcnn_R_50_FPN_1x": ("fpn", "segm/AP", *COCO, *VOC[1:]),
    "coco/mask_rcnn_R_50_FPN_1x --init pixpro_c5": ("c5", "segm/AP", *COCO, *VOC[1:]),
    "coco/mask_rcnn_R_50_C4_1x": ("c5", "segm/AP", *COCO, *VOC[1:]),
    "coco/retinanet_R_50_FPN_1x": ("fpn", "bbox/AP", *COCO, *RETINANET),
    "coco/retinanet_R_50_FPN_1x --init pixpro_head": ("retinanet", "bbox/AP", *COCO, *RETINANET),
    "coco/fcos_R_50_FPN_1x --init pixpro_head": ("fcos", "bbox/AP", *COCO, *FCOS),
    "coco/mask_rcnn_R_50_FPN_1pct": ("fpn", "segm/AP", *COCO, *VOC[1:]),
    "coco/mask_rcnn_R_50_FPN_10pct": ("fpn", "segm/AP", *COCO, *VOC[1:]),
    "cityscapes/fcn_R_50_90k": ("c5", "sem_seg/IoU", *CITYSCAPES),
    "cityscapes/fcn_R_50_90k_frozen": ("c5", "sem_seg/IoU", *CITYSCAPES),
    "cityscapes/deeplab_v3_R_50_40k": ("c5", "sem_seg/IoU", *CITYSCAPES),
    "cityscapes/deeplab_v3_R_50_40k_frozen": ("c5", "sem_seg/IoU", *CITYSCAPES),
    "cityscapes/mask_rcnn_R_50_FPN_24k": (
        "fpn", "segm/AP", ("cityscapes_instance:{}@train", "cityscapes_instance:{}@val"), *RCNN,
    ),
    "bdd100k/deeplab_v3_R_50_40k": ("c5", "sem_seg/mIoU", *PNG),
    "imagenet/linear_R_50_100ep": ("c5", "classification/linear_top1", *CLASSES),
}  # fmt: skip


PRETRAINING = {
    "c5": "pixpro_c5_100ep",
    "fpn": "pixpro_fpn",
    "retinanet": "pixpro_fpn_retinanet_head",
    "fcos": "pixpro_fpn_fcos_head",
    "pixcontrast": "pixcontrast_c5_100ep",
}

scenes = render_once(train=4, test=2, size=96, layouts=("voc", "coco", "cityscapes", "classes"))


@pytest.fixture(scope="module")
def weights(scenes):
    """Pre-trained checkpoints by the name of what was pre-trained, each after one iteration."""
    made = {}
    for name, config in PRETRAINING.items():
        folder = scenes.parent / name
        args = [
            "--config-file",
            f"configs/pretrain/{config}.yaml",
            "DATASETS.TRAIN",
            f"('images:{scenes}/JPEGImages',)",
        ]
        small = [*configs.TINY, *configs.NARROW, "SOLVER.MAX_ITER", 1]
        cli.run_here(*args, *small, "OUTPUT_DIR", folder)
        made[name] = folder / "model_final.pth"
    return made


@pytest.mark.parametrize("name", RUNS)
def test_train_evaluate_and_evaluate_again(name, scenes, weights, tmp_path):
    start, metric, names, *opts = RUNS[name]
    recipe, *init = name.split()
    args = ["--config-file", f"configs/{recipe}.yaml", *init, *options(scenes, names, *configs.NARROW, *opts)]
    with logged("pixpro_d2.checkpoint") as lines:
        cli.run_here(*args, "MODEL.WEIGHTS", weights[start], "OUTPUT_DIR", tmp_path)
    assert any("53 of 53 convolutions" in line for line in lines)
    trained = cli.metrics(tmp_path)[-1]
    results = cli.run_here("--eval-only", *args, "MODEL.WEIGHTS", tmp_path / "model_final.pth", "OUTPUT_DIR", tmp_path)
    task, name = metric.split("/")
    again = results[task][name]
    assert again == pytest.approx(trained[metric], abs=1e-9, nan_ok=False), (again, trained)


def test_knn_needs_no_training(scenes, weights, tmp_path):
    args = ["--config-file", "configs/imagenet/knn_R_50.yaml", *options(scenes, *CLASSES, *configs.NARROW)]
    args += ["MODEL.CLASSIFIER.NEIGHBORS", "[1, 3]", "MODEL.WEIGHTS", weights["c5"], "OUTPUT_DIR", tmp_path]
    results = cli.run_here("--eval-only", *args)
    assert set(results["classification"]) == {"knn1_top1", "knn1_top5", "knn3_top1", "knn3_top5"}
    with pytest.raises(SystemExit, match="not trained: add --eval-only"):
        cli.run_here(*args)


def test_pixcontrast_reaches_a_detector(scenes, weights, tmp_path):
    args = ["--config-file", "configs/voc/faster_rcnn_R_50_C4_24k.yaml", "--init", "pixcontrast"]
    args += options(scenes, *VOC, *configs.NARROW)
    with logged("pixpro_d2.checkpoint") as lines:
        cli.run_here(*args, "SOLVER.MAX_ITER", 1, "MODEL.WEIGHTS", weights["pixcontrast"], "OUTPUT_DIR", tmp_path)
    assert any("53 of 53 convolutions" in line for line in lines)


@pytest.mark.parametrize(
    "recipe, names, opts, message",
    [
        ("cityscapes/fcn_R_50_90k", CITYSCAPES, ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 20),
         "SEM_SEG_HEAD.NUM_CLASSES is 20, but data set .* has 19 classes: set it to 19"),
        ("imagenet/linear_R_50_100ep", CLASSES, ("MODEL.CLASSIFIER.NUM_CLASSES", 4),
         "CLASSIFIER.NUM_CLASSES is 4, .* has 5 classes: set it to 5"),
        ("coco/retinanet_R_50_FPN_1x", COCO, ("MODEL.RETINANET.NUM_CLASSES", 80),
         "RETINANET.NUM_CLASSES is 80, .* has 5 classes: set it to 5"),
        ("voc/faster_rcnn_R_50_C4_24k", VOC, ("MODEL.ROI_HEADS.NUM_CLASSES", 80),
         "ROI_HEADS.NUM_CLASSES is 80, .* has 5 classes: set it to 5"),
        ("cityscapes/fcn_R_50_90k_frozen", CITYSCAPES, ("MODEL.WEIGHTS", ""), "keep a random backbone"),
        ("cityscapes/fcn_R_50_90k", CITYSCAPES, ("INPUT.FORMAT", "BGR"), "INPUT.FORMAT RGB"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_training(recipe, names, opts, message, scenes, weights, tmp_path):
    names, *rest = names
    args = ["--config-file", f"configs/{recipe}.yaml", *options(scenes, names, *configs.NARROW, *rest)]
    with pytest.raises(SystemExit, match=message):
        cli.run_here(*args, "MODEL.WEIGHTS", weights["c5"], *opts, "OUTPUT_DIR", tmp_path)
    assert not list(tmp_path.glob("*.pth"))
