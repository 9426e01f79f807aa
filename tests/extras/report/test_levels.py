"""Names and explanations of levels."""

import copy

from report_helpers import CONFIG, write_run

from pixpro_d2.extras.report.levels import explain, level_of, levels_of
from pixpro_d2.extras.report.runs import read_run


def test_the_level_of_a_curve():
    names = ("p3", "test/p3", "variance_p3", "held/out/res5", "s4", "total", "top3", "p3/x", "")
    assert [level_of(name) for name in names] == ["p3", "p3", "p3", "res5", "s4", "", "", "", ""]


def test_levels_are_listed_finest_first():
    names = ["loss_pix_p10", "total_loss", "test/feature_std/p4", "feature_std/p4", "p3"]
    assert levels_of(names) == ["p3", "p4", "p10"]


def test_a_level_is_explained_by_its_stride(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["MODEL"]["PIXPRO"]["IN_FEATURES"] = ["res5", "p3", "s4", "tower"]
    pretraining = read_run(write_run(tmp_path / "a", config=config), "a")
    assert explain(pretraining) == [("res5", "32 × 32"), ("p3", "8 × 8"), ("s4", "32 × 32"), ("tower", "")]
    config["MODEL"]["META_ARCHITECTURE"] = "GeneralizedRCNN"
    assert explain(read_run(write_run(tmp_path / "b", config=config), "b")) == []
