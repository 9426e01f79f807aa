"""The experiments of a study: complete, valid, in order."""

import pytest
from detectron2.config import CfgNode

from configs import CONFIGS
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.extras.study.data import StudyData
from pixpro_d2.extras.study.experiments import fine_tuning_seed, list_experiments, pair_of
from pixpro_d2.extras.study.methods import METHODS, PARTS
from pixpro_d2.extras.study.recipes import STUDY
from pixpro_d2.utils.errors import UsageError

MINUTES = 3.5  # of a fine-tuning with its test, on one thread


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    render_dataset(folder / "scenes", train=6, test=2, size=64, layouts=("voc",))
    labels = folder / "segmentation" / "train" / "labels"
    labels.mkdir(parents=True)
    (labels / "classes.txt").write_text("sky\nroad\nwater\n")
    for name in ("cat", "dog"):
        (folder / "photographs" / name).mkdir(parents=True)
    scenes = folder / "scenes"
    return StudyData(folder / "data", folder / "photographs", scenes, folder / "segmentation", scenes)


def experiments(data, parts=tuple(PARTS), pretraining_seeds=(0, 1, 2), seeds=(0, 1, 2)):
    return list_experiments(list(parts), list(pretraining_seeds), list(seeds), STUDY.on("cpu"), data)


def config(experiment):
    words = [str(word) for pair in experiment.options.items() for word in pair]
    cfg = load_config(str(CONFIGS.parent / experiment.config), words)
    assert isinstance(cfg, CfgNode)
    return cfg


def test_pretrainings_come_before_what_begins_with_them_and_nothing_comes_twice(data):
    done = set()
    for experiment in experiments(data):
        assert experiment.name not in done
        assert experiment.weights is None or experiment.weights.name in done
        assert experiment.handed_on == experiment.name.startswith("pretrain-")
        done.add(experiment.name)
    # 9 pre-trainings of 3 seeds; 7 inits on 3 sizes of objects, 1 of scenes and 2 of cells, and 3 of driving both
    # frozen and fine-tuned, in 9 pairs
    assert len(done) == 3 * 9 + 9 * (7 * (3 + 1 + 2) + 3 + 3)


def test_a_part_runs_what_it_compares_only_and_one_pretraining_seed_after_the_other(data):
    names = [experiment.name for experiment in experiments(data, ["scenes"], [4, 7], [0, 1])]
    assert names[:5] == [
        "scenes-random-all-seed4-0", "scenes-random-all-seed4-1",
        "pretrain-pixpro-seed4", "scenes-pixpro-all-seed4-0", "scenes-pixpro-all-seed4-1",
    ]  # fmt: skip
    assert [name.replace("seed4", "seed7") for name in names[:20]] == names[20:]  # 2 fine-tunings of 7, 6 pre-trainings


def test_every_method_and_task_has_its_recipe_whose_options_are_valid(data):
    used = {method.recipe for method in METHODS.values()} | {part.task for part in PARTS.values()}
    assert used == set(STUDY.recipes)
    for experiment in experiments(data, pretraining_seeds=[0], seeds=[0]):
        cfg = config(experiment)
        assert cfg.MODEL.DEVICE == "cpu" and cfg.DATASETS.TRAIN


def test_the_same_recipes_run_on_a_gpu():
    cpu, gpu = (STUDY.on(device).recipes for device in ("cpu", "cuda"))
    for name, recipe in gpu.items():
        assert recipe.options == {**cpu[name].options, "MODEL.DEVICE": "cuda"}


def test_a_fine_tuning_takes_few_minutes_on_one_thread(data):
    assert max(experiment.seconds for experiment in experiments(data) if not experiment.handed_on) < MINUTES * 60


def pretraining_configs(data):
    found = (e for e in experiments(data, pretraining_seeds=[0]) if e.handed_on)
    return {e.name.removeprefix("pretrain-").removesuffix("-seed0"): config(e) for e in found}


def test_the_recipe_for_small_data_is_the_measured_one(data):
    measured = pretraining_configs(data)["pixpro_term"]
    offered = load_config(str(CONFIGS / "pretrain/small_data_r18_fpn.yaml"), [])
    machine = ["SEED", 0, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 1, "OUTPUT_DIR", "", "DATASETS.TRAIN", "()"]
    machine += ["SOLVER.CHECKPOINT_KEEP_LAST", 1, "SOLVER.CHECKPOINT_KEEP_EVERY", 0, "SOLVER.LR_REFERENCE_BATCH", 0]
    for cfg in (measured, offered):
        cfg.merge_from_list(machine)
    assert measured == offered


def test_the_methods_differ_in_what_they_are_named_for(data):
    found = pretraining_configs(data)
    assert set(found) == set(METHODS)
    expected = {
        "pixpro": ("pixpro", True, 1.0, 0.0, 0.0),
        "pixpro_term": ("pixpro", True, 1.0, 2.0, 0.08),
        "term_alone": ("pixpro", True, 0.0, 2.0, 0.08),
        "pixcontrast": ("pixcontrast", False, 1.0, 0.0, 0.0),
        "slotcon_term": ("slotcon", False, 1.0, 2.0, 0.08),
    }
    for method, values in expected.items():
        node = found[method].MODEL.PIXPRO
        weights = node.PIXEL_WEIGHT, node.VARIANCE_WEIGHT, node.COVARIANCE_WEIGHT
        assert values == (node.METHOD, node.PPM.ENABLED, *weights)
        assert ["p3", "p4", "p5", "p6"][: 3 if method == "slotcon_term" else 4] == node.IN_FEATURES
    slots = load_config(str(CONFIGS / "pretrain/slotcon_quickstart.yaml"), [])
    assert found["slotcon_term"].MODEL.PIXPRO == slots.MODEL.PIXPRO
    overlap = slots.INPUT.PIXPRO.MIN_OVERLAP, slots.INPUT.PIXPRO.REDRAW
    assert overlap == (found["slotcon_term"].INPUT.PIXPRO.MIN_OVERLAP, found["slotcon_term"].INPUT.PIXPRO.REDRAW)
    assert found["video1"].MODEL.PIXPRO.IN_FEATURES == found["video6"].MODEL.PIXPRO.IN_FEATURES == ["res4"]
    assert [found[name].INPUT.PIXPRO.N_FRAMES for name in ("video1", "video6")] == [1, 6]


def test_the_control_is_the_same_network_on_as_many_images_of_the_same_size(data):
    found = pretraining_configs(data)
    control, pixpro = found["supervised"], found["pixpro"]
    assert control.MODEL.META_ARCHITECTURE == "LinearClassifier" and not control.MODEL.BACKBONE.FROZEN
    assert control.MODEL.CLASSIFIER.NUM_CLASSES == 2 and control.MODEL.BACKBONE.FREEZE_AT == 0
    for key in ("DEPTH", "RES2_OUT_CHANNELS", "STRIDE_IN_1X1", "NORM"):
        assert control.MODEL.RESNETS[key] == pixpro.MODEL.RESNETS[key]
    assert control.SOLVER.IMS_PER_BATCH * control.SOLVER.MAX_ITER == 320000
    assert pixpro.SOLVER.IMS_PER_BATCH * pixpro.SOLVER.MAX_ITER == 320000
    assert control.INPUT.CLASSIFICATION.CROP_SIZE == pixpro.INPUT.PIXPRO.CROP_SIZE == 64


def test_an_untrained_backbone_is_that_of_the_video_pretrainings_at_its_start(data):
    found = {e.name: e for e in experiments(data, ["video"], [1], [0])}
    untrained, trained = (config(found[f"pretrain-{name}-seed1"]) for name in ("untrained", "video1"))
    assert (untrained.SEED, untrained.MODEL) == (trained.SEED, trained.MODEL)
    assert untrained.SOLVER.BASE_LR_END <= untrained.SOLVER.BASE_LR < 1e-10 < trained.SOLVER.BASE_LR
    assert found["pretrain-untrained-seed1"].seconds < found["pretrain-video1-seed1"].seconds
    assert found["driving-untrained-frozen-seed1-0"].weights == found["pretrain-untrained-seed1"]


def test_pairs_have_seeds_of_their_own_which_change_the_labels_and_nothing_else_the_data(data):
    found = {e.name: config(e) for e in experiments(data, pretraining_seeds=[0, 2], seeds=[0, 1])}
    assert {cfg.SEED for name, cfg in found.items() if "pretrain" in name} == {0, 2}
    seeds = {pair_of(name, "objects-random-5-seed"): cfg.SEED for name, cfg in found.items() if "random-5" in name}
    assert len(set(seeds.values())) == 4 and seeds[2, 1] == fine_tuning_seed((2, 1)) == 201
    few = [found[f"cells-{init}-20-seed2-1"] for init in ("pixpro", "random", "supervised")]
    assert all(cfg.SEED == 201 and cfg.DATASETS == few[0].DATASETS for cfg in few)
    assert few[0].DATASETS.TRAIN[0].endswith("@train_20_seed201")
    assert len({cfg.DATASETS.TEST for name, cfg in found.items() if name.startswith("cells")}) == 1
    splits = {name: found[f"objects-random-{name}-seed0-0"].DATASETS.TRAIN[0] for name in ("5", "20", "all")}
    assert [name.partition("@")[2] for name in splits.values()] == ["train5", "train20", "train"]
    assert {name.split("-seed")[0] for name, cfg in found.items() if cfg.MODEL.BACKBONE.FROZEN} == {
        f"driving-{init}-frozen" for init in ("untrained", "video1", "video6")
    }
    assert all(cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5 for name, cfg in found.items() if name.startswith("objects"))


def test_a_seed_that_two_pairs_would_share_is_refused(data):
    with pytest.raises(UsageError, match="--seeds has 100: seeds of fine-tunings are less than 100"):
        experiments(data, ["scenes"], [0], [100])


@pytest.mark.parametrize(
    ("name", "pair"),
    [("a-b-seed3-12", (3, 12)), ("a-b-seed3", None), ("a-b_c-seed3-1", None), ("x-a-b-seed3-1", None)],
)
def test_pair_of_a_name(name, pair):
    assert pair_of(name, "a-b-seed") == pair
