"""The config keys, and what the shipped configs resolve to."""

import pathlib
import re

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

import configs
from pixpro_d2 import add_pixpro_config, config
from pixpro_d2.config_files import recipe_and_start, start_names
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import flatten

PRETRAIN = sorted((configs.CONFIGS / "pretrain").glob("**/*.yaml"))
TASKS = [path for path in sorted(configs.CONFIGS.glob("*/*.yaml")) if path.parent.name not in ("pretrain", "init")]
OLD_NAMES = [path for path in TASKS if recipe_and_start(str(path))]  # of a recipe with a start
RECIPES = [path for path in TASKS if path not in OLD_NAMES and "small" not in path.name]


def test_only_new_keys_are_added():
    before, after = get_cfg(), get_cfg()
    add_pixpro_config(after)
    old, new = flatten(before), flatten(after)
    assert all(new[key] == value for key, value in old.items())
    assert len(new) > len(old) + 30


def test_keys_of_another_project_stay():
    """Other projects have nodes and keys of the same names, and some call this function twice."""
    cfg = get_cfg()
    cfg.MODEL.FCOS = CfgNode({"NUM_CLASSES": 12, "FPN_STRIDES": [8, 16]})
    cfg.WANDB, cfg.SOLVER.OPTIMIZER = CfgNode({"ENTITY": "me"}), "ADAMW"
    existing = flatten(cfg)
    add_pixpro_config(cfg)
    assert existing.items() <= flatten(cfg).items()
    assert (cfg.MODEL.FCOS.NUM_CONVS, cfg.WANDB.PROJECT) == (4, "pixpro_d2")
    cfg.MODEL.PIXPRO.POS_RATIO = 0.5
    again = cfg.clone()
    add_pixpro_config(again)
    assert again == cfg


def test_a_run_takes_keys_of_another_project(monkeypatch):
    def add_swint_config(cfg):
        cfg.MODEL.SWINT = CfgNode({"EMBED_DIM": 96})

    monkeypatch.setattr(config, "ADD_KEYS", [add_swint_config])
    assert load_config("", []).MODEL.SWINT.EMBED_DIM == 96
    assert load_config("", ["MODEL.SWINT.EMBED_DIM", "48"]).MODEL.SWINT.EMBED_DIM == 48


def test_a_copy_with_other_values():
    cfg = config.default_config()
    cfg.freeze()
    other = config.with_values(cfg, {"SEED": 7, "MODEL.PIXPRO.HEAD": "fcos", "DATASETS.TRAIN": ("a",)})
    assert (other.SEED, other.MODEL.PIXPRO.HEAD, other.DATASETS.TRAIN) == (7, "fcos", ("a",))
    assert not other.is_frozen() and cfg == config.default_config()


def test_pretraining_avoids_detectron2s_defaults_for_detectors():
    for path in PRETRAIN:
        cfg = load_config(str(path), [])
        assert cfg.MODEL.BACKBONE.FREEZE_AT == 0, path
        assert cfg.MODEL.RESNETS.NORM == "SyncBN" and cfg.SOLVER.RESCALE_INTERVAL, path
        if cfg.MODEL.PIXPRO.METHOD != "densecl":  # MoCo v2's recipe: SGD, heads without norm
            assert cfg.MODEL.PIXPRO.NORM == "SyncBN" and cfg.SOLVER.OPTIMIZER == "LARS", path
        assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1, path
        assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53], path


def test_official_recipe():
    cfg = load_config(str(configs.CONFIGS / "pretrain/pixpro_c5_100ep.yaml"), [])
    solver, pixpro = cfg.SOLVER, cfg.MODEL.PIXPRO
    assert (solver.BASE_LR, solver.IMS_PER_BATCH, solver.LR_REFERENCE_BATCH) == (4.0, 1024, 1024)
    assert (solver.MAX_EPOCHS, solver.WARMUP_EPOCHS, solver.WARMUP_FACTOR) == (100, 5, 0.01)
    assert (solver.MOMENTUM, solver.WEIGHT_DECAY, solver.BASE_LR_END) == (0.9, 1e-5, 1e-6)
    assert (pixpro.POS_RATIO, pixpro.MOMENTUM, pixpro.MEAN_OVER) == (0.7, 0.99, "all")
    assert (pixpro.PROJECTOR.HIDDEN_DIM, pixpro.PROJECTOR.OUT_DIM) == (4096, 256)
    assert (pixpro.PPM.GAMMA, pixpro.PPM.NUM_LAYERS, pixpro.IN_FEATURES) == (2.0, 1, ["res5"])
    assert (cfg.INPUT.PIXPRO.CROP_SIZE, cfg.INPUT.PIXPRO.MIN_SCALE, cfg.INPUT.PIXPRO.AUG) == (224, 0.08, "byol")
    assert load_config(str(configs.CONFIGS / "pretrain/pixpro_c5_400ep.yaml"), []).SOLVER.MAX_EPOCHS == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in PRETRAIN if "Base" not in p.name] + RECIPES, ids=lambda path: f"{path.parent.stem}/{path.stem}"
)
def test_every_recipe_builds_its_model(path):
    no_teacher = ["MODEL.PIXPRO.DISTILL.WEIGHT", 0.0, "MODEL.PIXPRO.PIXEL_WEIGHT", 1.0]  # a teacher needs its files
    cfg = load_config(str(path), ["MODEL.DEVICE", "meta", "MODEL.WEIGHTS", "", *no_teacher])
    with torch.device("meta"):  # all but the values, whose drawing takes most of the time
        model = build_model(cfg)
    assert sum(p.numel() for p in model.parameters()) > 1e6


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.stem}/{path.stem}")
def test_a_recipe_starts_from_pixpro(path):
    """A file's own start is the one of --init pixpro; its folder is called as the file."""
    cfg, pixpro = load_config(str(path), []), load_config(str(path), [], "pixpro")
    assert f"output/{path.parent.name}_{path.stem}" == cfg.OUTPUT_DIR
    assert f"{cfg.OUTPUT_DIR}_pixpro" == pixpro.OUTPUT_DIR
    pixpro.OUTPUT_DIR = cfg.OUTPUT_DIR
    assert pixpro == cfg
    assert cfg.DATASETS.TRAIN and cfg.DATASETS.TEST and cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert ("frozen" in path.stem or path.stem.startswith("linear")) == cfg.MODEL.BACKBONE.FROZEN


def test_the_old_name_of_a_recipe_with_a_start():
    """A study of earlier commands keeps working."""
    (path,) = OLD_NAMES
    assert f"{path.parent.name}/{path.stem}" == "cityscapes/fcn_R_50_90k_random"
    recipe, start = recipe_and_start(str(path))
    assert load_config(str(path), []) == load_config(recipe, [], start)


def test_weights_of_the_starts_are_made_by_pretraining_configs():
    made = {load_config(str(path), []).OUTPUT_DIR for path in PRETRAIN}
    folder = configs.CONFIGS / "init"
    for path in (*folder.glob("pix*.yaml"), *folder.glob("slotcon*.yaml"), *folder.glob("distill*.yaml")):
        weights = load_config(str(path), []).MODEL.WEIGHTS
        assert weights.removesuffix("/model_final.pth") in made and weights.endswith("/model_final.pth")


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.PIXPRO.POS_RATOI", "0.7"], "key 'MODEL.PIXPRO.POS_RATOI'; did you mean MODEL.PIXPRO.POS_RATIO"),
        (["MODEL.PIXPRO.POS_RATIO"], "MODEL.PIXPRO.POS_RATIO has no value"),
        (["MODEL.PIXPRO.PPM.GAMMA", "two"], "GAMMA"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(opts, message):
    with pytest.raises(UsageError, match=message):
        load_config(str(configs.CONFIGS / "pretrain/quickstart.yaml"), opts)


def test_mistakes_in_a_file(tmp_path):
    with pytest.raises(UsageError, match="no config file .*none.yaml"):
        load_config("none.yaml", [])
    (tmp_path / "typo.yaml").write_text("MODEL:\n  PIXPROO:\n    LOSS: pixpro\nVERSION: 2\n")
    with pytest.raises(UsageError, match="MODEL.PIXPROO"):
        load_config(str(tmp_path / "typo.yaml"), [])


def test_the_model_zoo_lists_every_config():
    text = (configs.CONFIGS.parent / "MODEL_ZOO.md").read_text()
    listed = set(re.findall(r"\]\((configs/[^)]+\.yaml)\)", text))
    files = {str(path.relative_to(configs.CONFIGS.parent)) for path in configs.CONFIGS.glob("**/*.yaml")}
    assert listed <= files
    needed = {str(path.relative_to(configs.CONFIGS.parent)) for path in RECIPES}
    needed |= {f"configs/pretrain/{p.name}" for p in PRETRAIN if p.parent.name == "pretrain" and "Base" not in p.name}
    assert needed - listed == {"configs/pretrain/quickstart.yaml"}  # for trying things out


def test_the_model_zoo_has_a_table_of_starts_for_every_recipe():
    """Random, both supervised ResNets, PixPro and PixContrast; a frozen backbone needs weights."""
    text = (configs.CONFIGS.parent / "MODEL_ZOO.md").read_text()
    starts = {"random", "msra", "torchvision", "pixpro", "pixcontrast"}
    for path in RECIPES:
        cfg = load_config(str(path), [])
        (section,) = re.findall(rf"\]\({path.relative_to(configs.CONFIGS.parent)}\)(.*?)(?:^## |\Z)", text, re.M | re.S)
        listed = set(re.findall(r"^\| `(\w+)` \|", section, re.M))
        assert starts - ({"random"} if cfg.MODEL.BACKBONE.FROZEN else set()) <= listed, path
        assert listed <= set(start_names())
        for start in listed:
            load_config(str(path), [], start)


def uncommented(source):
    """Yield the keys of a config file without a comment above them or above their group, keys of one node in a row."""
    group = None  # node of the comment, "" before the node is known
    for line in map(str.strip, source.splitlines()):
        node, _, key = line.partition(" = ")[0].rpartition(".")
        if line.startswith("#"):
            group = ""
        elif line.startswith("cfg.") and "= CN()" not in line:
            if group not in ("", node):
                yield f"{node}.{key}"
            group = node if group is not None else None
        else:
            group = None


def test_every_key_has_a_comment():
    source = pathlib.Path(config.__file__).read_text()
    assert list(uncommented(source)) == [] and source.count("# ") > 80


@pytest.mark.parametrize(
    "source, found",
    [
        ("# A.\ncfg.A.ONE = 1\ncfg.A.TWO = 2\n# Late.\ncfg.A.LATE = 1", []),
        ("cfg.KEY = 1", ["cfg.KEY"]),
        ("# A.\ncfg.A.OTHER = 1\n\ncfg.A.KEY = 2", ["cfg.A.KEY"]),  # a blank line between
        ("# A.\ncfg.A.OTHER = 1\ncfg.KEY = 2", ["cfg.KEY"]),
        ("# The node.\ncfg.A = CN()\ncfg.A.KEY = 2", ["cfg.A.KEY"]),
    ],
)
def test_a_key_without_a_comment_is_found(source, found):
    assert list(uncommented(source)) == found


def test_the_page_names_every_group_of_keys():
    cfg = get_cfg()
    without = set(flatten(cfg))
    add_pixpro_config(cfg)
    added = flatten(cfg).keys() - without
    named = set(re.findall(r"`([A-Z_.]+)`", (configs.CONFIGS.parent / "docs/config.md").read_text()))
    assert [key for key in added if key not in named and not named & set(ancestors(key))] == []


def ancestors(key):
    while "." in key:
        key = key.rpartition(".")[0]
        yield key
