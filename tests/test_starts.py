"""The start of a run, by --init: values by hand for recipes of every kind, and what is refused."""

import re
import shutil

import pytest
from detectron2.config import CfgNode

import configs
from pixpro_d2.config_files import recipe_and_start, start_names, starts_folder
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.starts import KEYS
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import value_of

RGB = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], False, "RGB")
BGR = ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], True, "BGR")
SUPERVISED = {
    "random": ("", *RGB),
    "msra": ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", *BGR),
    "torchvision": ("https://download.pytorch.org/models/resnet50-0676ba61.pth", *RGB),
}
C5 = {
    "pixpro": ("output/pixpro_c5_100ep/model_final.pth", *RGB),
    "pixpro_c5": ("output/pixpro_c5_100ep/model_final.pth", *RGB),
    "pixcontrast": ("output/pixcontrast_c5_100ep/model_final.pth", *RGB),
    "pixcontrast_c5": ("output/pixcontrast_c5_100ep/model_final.pth", *RGB),
    "slotcon": ("output/slotcon_c5_100ep/model_final.pth", *RGB),
    "slotcon_c5": ("output/slotcon_c5_100ep/model_final.pth", *RGB),
    "slotcon_coco": ("output/slotcon_coco_800ep/model_final.pth", *RGB),
}
FPN = {
    **C5,
    "distill_fpn": ("output/distill_fpn/model_final.pth", *RGB),
    "pixpro": ("output/pixpro_fpn/model_final.pth", *RGB),
    "pixpro_fpn": ("output/pixpro_fpn/model_final.pth", *RGB),
    "pixcontrast": ("output/pixcontrast_fpn/model_final.pth", *RGB),
    "pixcontrast_fpn": ("output/pixcontrast_fpn/model_final.pth", *RGB),
    "slotcon": ("output/slotcon_fpn/model_final.pth", *RGB),
    "slotcon_fpn": ("output/slotcon_fpn/model_final.pth", *RGB),
}
FCOS_HEAD = ("output/pixpro_fpn_fcos_head/model_final.pth", *RGB)
RETINANET_HEAD = ("output/pixpro_fpn_retinanet_head/model_final.pth", *RGB)
FCOS = {**FPN, "pixpro_head": FCOS_HEAD, "pixpro_fcos_head": FCOS_HEAD}
RETINANET = {**FPN, "pixpro_head": RETINANET_HEAD, "pixpro_retinanet_head": RETINANET_HEAD}
# recipe -> (starts beside the supervised ones, iterations, learning rate, batch size, frozen, training data)
VOC, COCO, CITYSCAPES = ("voc_2007_trainval", "voc_2012_trainval"), ("coco_2017_train",), "cityscapes_fine"
RECIPES = {
    "voc/faster_rcnn_R_50_C4_24k": (C5, 24000, 0.02, 16, False, VOC),
    "voc/faster_rcnn_R_50_FPN_24k": (FPN, 24000, 0.02, 16, False, VOC),
    "voc/fcn_R_50_30k": (C5, 30000, 0.003, 16, False, ("voc_2012_sem_seg_train_aug",)),
    "coco/mask_rcnn_R_50_FPN_1x": (FPN, 90000, 0.02, 16, False, COCO),
    "coco/mask_rcnn_R_50_C4_1x": (C5, 90000, 0.02, 16, False, COCO),
    "coco/retinanet_R_50_FPN_1x": (RETINANET, 90000, 0.01, 16, False, COCO),
    "coco/fcos_R_50_FPN_1x": (FCOS, 90000, 0.01, 16, False, COCO),
    "coco/mask_rcnn_R_50_FPN_10pct": (FPN, 9000, 0.02, 16, False, ("coco_2017_train_10pct",)),
    "coco/mask_rcnn_R_50_FPN_1pct": (FPN, 1800, 0.02, 16, False, ("coco_2017_train_1pct",)),
    "cityscapes/fcn_R_50_90k": (C5, 90000, 0.01, 16, False, (f"{CITYSCAPES}_sem_seg_train",)),
    "cityscapes/fcn_R_50_90k_frozen": (C5, 90000, 0.01, 16, True, (f"{CITYSCAPES}_sem_seg_train",)),
    "cityscapes/deeplab_v3_R_50_40k": (C5, 40000, 0.01, 8, False, (f"{CITYSCAPES}_sem_seg_train",)),
    "cityscapes/deeplab_v3_R_50_40k_frozen": (C5, 40000, 0.01, 8, True, (f"{CITYSCAPES}_sem_seg_train",)),
    "cityscapes/mask_rcnn_R_50_FPN_24k": (FPN, 24000, 0.01, 8, False, (f"{CITYSCAPES}_instance_seg_train",)),
    "bdd100k/deeplab_v3_R_50_40k": (C5, 40000, 0.01, 16, False, ("bdd100k_sem_seg_train",)),
    "imagenet/linear_R_50_100ep": (C5, 40000, 30.0, 256, True, ("imagenet_train",)),  # epochs count
    "imagenet/knn_R_50": (C5, 40000, 0.001, 256, False, ("imagenet_train",)),  # is not trained
}


def path_of(recipe):
    return str(configs.CONFIGS / f"{recipe}.yaml")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_start_of_a_recipe(recipe):
    """The start decides its five keys and the end of OUTPUT_DIR, and leaves the recipe as it is."""
    starts, *expected = RECIPES[recipe]
    own = load_config(path_of(recipe), [])
    solver = own.SOLVER
    found = [solver.MAX_ITER, solver.BASE_LR, solver.IMS_PER_BATCH, own.MODEL.BACKBONE.FROZEN, own.DATASETS.TRAIN]
    assert found == expected
    for start, values in {**SUPERVISED, **starts}.items():
        cfg = load_config(path_of(recipe), [], start)
        assert tuple(value_of(cfg, key) for key in KEYS) == values, start
        assert f"output/{recipe.replace('/', '_')}_{start}" == cfg.OUTPUT_DIR
        for key in KEYS:
            node, _, name = key.rpartition(".")
            value_of(cfg, node)[name] = value_of(own, key)
        cfg.OUTPUT_DIR = own.OUTPUT_DIR
        assert cfg == own
    for start in set(start_names()) - set(starts) - set(SUPERVISED):
        with pytest.raises(UsageError, match=rf"^Config \S+: --init {start} needs .*: choose from .*\.$"):
            load_config(path_of(recipe), [], start)


def test_key_value_pairs_come_after_the_start():
    opts = ["MODEL.WEIGHTS", "mine.pth", "OUTPUT_DIR", "output/mine"]
    cfg = load_config(path_of("voc/fcn_R_50_30k"), opts, "msra")
    assert (cfg.MODEL.WEIGHTS, cfg.INPUT.FORMAT, cfg.OUTPUT_DIR) == ("mine.pth", "BGR", "output/mine")


@pytest.mark.parametrize("path", starts_folder().glob("*.yaml"), ids=lambda path: path.stem)
def test_all_starts_set_the_same_keys(path):
    """So a start takes the place of another without a trace."""
    content = CfgNode.load_yaml_with_base(str(path))
    assert content.pop("VERSION") == 2 and _keys(content) == set(KEYS)


def _keys(node, prefix=""):
    keys = set()
    for name, value in node.items():
        keys |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return keys


def test_a_pretraining_has_a_start_too():
    cfg = load_config(path_of("pretrain/pixpro_c5_100ep"), [], "torchvision")
    assert cfg.MODEL.WEIGHTS.startswith("https://") and cfg.OUTPUT_DIR == "output/pixpro_c5_100ep_torchvision"


@pytest.mark.parametrize(
    "recipe, start, message",
    [
        (
            "coco/mask_rcnn_R_50_C4_1x", "pixprp",
            r"--init knows no start 'pixprp': choose from msra, pixcontrast, pixcontrast_c5, pixpro, pixpro_c5, "
            r"random, slotcon, slotcon_c5, slotcon_coco, torchvision\.",
        ),
        (
            "coco/mask_rcnn_R_50_FPN_1x", "pixpro_fcos_head",
            r"--init pixpro_fcos_head needs the head of FCOS: choose from "
            r"distill_fpn, msra, pixcontrast, pixcontrast_c5, pixcontrast_fpn, pixpro, pixpro_c5, pixpro_fpn, random, "
            r"slotcon, slotcon_c5, slotcon_coco, slotcon_fpn, torchvision\.",
        ),
        ("voc/fcn_R_50_30k", "pixpro_fpn", r"--init pixpro_fpn needs an FPN: choose from .*"),
        ("voc/fcn_R_50_30k", "pixpro_head", r"--init pixpro_head needs the head of FCOS or the head of RetinaNet: .*"),
    ],
)  # fmt: skip
def test_starts_that_are_refused(recipe, start, message):
    with pytest.raises(UsageError) as error:
        load_config(path_of(recipe), [], start)
    assert re.fullmatch(f"Config {path_of(recipe)}: {message}", str(error.value))


OLD_NAMES = [
    ("voc/fcn_R_50_30k_random", "voc/fcn_R_50_30k", "random"),
    ("coco/mask_rcnn_R_50_FPN_1x_pixpro_c5", "coco/mask_rcnn_R_50_FPN_1x", "pixpro_c5"),
    ("coco/fcos_R_50_FPN_1x_pixpro_head", "coco/fcos_R_50_FPN_1x", "pixpro_head"),
    ("cityscapes/fcn_R_50_90k_frozen_msra", "cityscapes/fcn_R_50_90k_frozen", "msra"),
]


@pytest.mark.parametrize(("old", "recipe", "start"), OLD_NAMES)
def test_a_file_of_recipe_and_start_names_the_command_that_replaces_it(old, recipe, start):
    with pytest.raises(UsageError) as error:
        load_config(path_of(old), [])
    command = f"`--config-file {path_of(recipe)} --init {start}`"
    assert str(error.value) == f"There is no config file {path_of(old)} any more: write {command} instead."
    load_config(path_of(recipe), [], start)  # works


def test_names_that_only_look_like_recipe_and_start():
    assert recipe_and_start(path_of("init/random")) is None
    assert recipe_and_start(path_of("voc/yolo_R_50_pixpro")) is None
    assert recipe_and_start(path_of("voc/fcn_R_50_30k")) is None


def test_other_missing_files_name_the_most_similar_one(tmp_path):
    with pytest.raises(UsageError, match=r"no config file \S+/fcn_R_50_30.yaml: did you mean \S+/fcn_R_50_30k.yaml\?$"):
        load_config(path_of("voc/fcn_R_50_30"), [])
    with pytest.raises(UsageError, match=r"no config file \S+/none.yaml: the configs of the package are in \S+\.$"):
        load_config(str(tmp_path / "none.yaml"), [])
    shutil.copy(path_of("voc/fcn_R_50_30k"), tmp_path)
    (tmp_path / "mine.yaml").write_text('_BASE_: "Base-FCN-R50-30k.yaml"\n')
    with pytest.raises(UsageError, match=r"^Config \S+mine.yaml, in _BASE_: There is .* mean \S+30k.yaml\?$"):
        load_config(str(tmp_path / "mine.yaml"), [])
