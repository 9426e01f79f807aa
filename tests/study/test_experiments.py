"""The experiments of a study: complete, valid, in order."""

import pytest
from detectron2.config import CfgNode

from configs import CONFIGS
from pixpro_d2.engine.configure import load_config
from pixpro_d2.study.data import StudyData
from pixpro_d2.study.experiments import list_experiments
from pixpro_d2.study.recipes import METHODS, PARTS, SCALES
from pixpro_d2.tools.render import render_dataset

HOURS = 3.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    render_dataset(folder / "scenes", train=6, test=2, size=64, layouts=("voc",))
    return StudyData(folder / "data", ("images:photos",), folder / "scenes")


def experiments(data, parts=tuple(PARTS), seeds=(0, 1, 2), scale="cpu"):
    return list_experiments(list(parts), list(seeds), SCALES[scale], data)


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
        done.add(experiment.name)
    # 7 pre-trainings; 3 inits x 3 sizes, 2 more at 20 images; 3 fine-tuned and 3 frozen segmentations; 3 seeds
    assert len(done) == 7 + 3 * (9 + 2 + 6)


def test_a_part_runs_what_it_compares_only(data):
    names = [experiment.name for experiment in experiments(data, ["levels"], [4])]
    assert names == [
        "pretrain-pixpro_c5", "pretrain-pixpro",
        "detection-random-20-seed4", "detection-pixpro_c5-20-seed4", "detection-pixpro-20-seed4",
    ]  # fmt: skip


def test_two_cores_need_less_than_three_hours(data):
    assert sum(experiment.seconds for experiment in experiments(data)) < HOURS * 3600


@pytest.mark.parametrize("scale", SCALES)
def test_the_methods_differ_in_what_they_are_named_for(data, scale):
    found = {e.name.removeprefix("pretrain-"): config(e).MODEL.PIXPRO for e in experiments(data, scale=scale)[:7]}
    assert set(found) == set(METHODS)
    pyramid = ["p3", "p4", "p5", "p6"]
    expected = {
        "pixpro": ("pixpro", pyramid, 0.0, True),
        "pixcontrast": ("pixcontrast", pyramid, 0.0, False),
        "pixpro_c5": ("pixpro", ["res5"], 0.0, True),
        "simclr_star": ("pixpro", [], 1.0, True),
    }
    for method, values in expected.items():
        node = found[method]
        assert values == (node.METHOD, node.IN_FEATURES, node.INSTANCE.WEIGHT, node.PPM.ENABLED)
    assert found["simclr_star"].INSTANCE.LOSS == "infonce"
    assert found["video1"].IN_FEATURES == found["video6"].IN_FEATURES != pyramid


@pytest.mark.parametrize("scale", SCALES)
def test_an_untrained_backbone_is_that_of_the_video_pretrainings_at_its_start(data, scale):
    found = {e.name: e for e in experiments(data, ["video"], scale=scale)}
    untrained, trained = (config(found[f"pretrain-{name}"]) for name in ("untrained", "video1"))
    assert (untrained.SEED, untrained.MODEL) == (trained.SEED, trained.MODEL)
    assert untrained.SOLVER.BASE_LR_END <= untrained.SOLVER.BASE_LR < 1e-10 < trained.SOLVER.BASE_LR
    assert found["pretrain-untrained"].seconds < found["pretrain-video1"].seconds
    assert found["segmentation-untrained-frozen-seed0"].weights == found["pretrain-untrained"]


@pytest.mark.parametrize("scale", SCALES)
def test_seeds_change_the_labels_and_nothing_else_the_data_of_the_test(data, scale):
    fine = {e.name: config(e) for e in experiments(data, scale=scale) if e.weights or "random" in e.name}
    few = [fine[f"detection-pixpro-5-seed{seed}"] for seed in (0, 1)]
    assert [cfg.DATASETS.TRAIN[0].rsplit("@")[-1] for cfg in few] == ["train_5_seed0", "train_5_seed1"]
    assert [cfg.SEED for cfg in few] == [0, 1]
    assert fine["detection-random-5-seed1"].DATASETS == few[1].DATASETS
    assert len({cfg.DATASETS.TEST for name, cfg in fine.items() if "detection" in name}) == 1
    assert {name for name, cfg in fine.items() if cfg.MODEL.BACKBONE.FROZEN} == {
        f"segmentation-{init}-frozen-seed{seed}" for init in ("untrained", "video1", "video6") for seed in (0, 1, 2)
    }
    assert all(cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5 for name, cfg in fine.items() if "detection" in name)
