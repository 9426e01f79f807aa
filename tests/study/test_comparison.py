"""Means, deviations and gains, by hand."""

import pytest
from study_helpers import fine_tunings, result

from pixpro_d2.errors import UsageError
from pixpro_d2.study.comparison import parts_with_results, pretrainings, rows, spread
from pixpro_d2.study.recipes import PARTS


def test_spread():
    assert spread([1.0, 2.0, 3.0]) == "2.0 ± 1.0"  # the sample's, with n - 1
    assert spread([-1.0], "+") == "-1.0" and spread([1.0], "+") == "+1.0"
    assert spread([]) == ""


def test_gains_are_of_the_same_seed():
    results = fine_tunings("detection", "random", "20", [10.0, 20.0]) | fine_tunings(
        "detection", "pixpro", "20", [13.0, 21.0, 99.0]
    )
    random, pixpro = rows(PARTS["levels"], results)
    assert (random.init, random.values, random.gains) == ("random", [10.0, 20.0], [])
    assert (pixpro.init, pixpro.values, pixpro.gains) == ("PixPro on P3-P6", [13.0, 21.0, 99.0], [3.0, 1.0])
    assert pixpro.variant == "20 images" and pixpro.seconds == [30.0] * 3


def test_initialisations_with_like_names_are_told_apart():
    results = fine_tunings("detection", "pixpro_c5", "20", [1.0]) | fine_tunings("detection", "pixpro", "20", [2.0])
    assert [(row.init, row.values) for row in rows(PARTS["levels"], results)] == [
        ("PixPro on C5", [1.0]), ("PixPro on P3-P6", [2.0]),
    ]  # fmt: skip


def test_gains_on_a_frozen_backbone_are_over_an_untrained_one():
    results = {}
    for init, variant, value in (
        ("untrained", "frozen", 5.0), ("video1", "frozen", 8.0), ("random", "tuned", 20.0), ("video1", "tuned", 21.0),
    ):  # fmt: skip
        results |= fine_tunings("segmentation", init, variant, [value])
    assert [(row.init, row.gains) for row in rows(PARTS["video"], results)] == [
        ("random, norms adapted", []), ("PixPro, one frame", [3.0]), ("random", []), ("PixPro, one frame", [1.0]),
    ]  # fmt: skip


def test_interrupted_runs_have_no_time():
    results = fine_tunings("detection", "random", "5", [1.0, 2.0])
    results["detection-random-5-seed0"] |= {"resumed": True, "seconds": 50.0}
    [row] = rows(PARTS["labels"], results)
    assert row.values == [1.0, 2.0] and row.seconds == [30.0]


def test_a_result_without_the_metric_is_refused():
    results = fine_tunings("detection", "random", "5", [1.0, 2.0])
    results["detection-random-5-seed1"]["metrics"] = {"total_loss": 1.0}
    with pytest.raises(UsageError, match="result of detection-random-5-seed1 has no finite 'bbox/AP'"):
        rows(PARTS["labels"], results)


def test_parts_and_pretrainings_that_are_there():
    results = fine_tunings("segmentation", "video6", "frozen", [1.0])
    assert [key for key, *_ in parts_with_results(results)] == ["video"]
    results["pretrain-video6"] = result("pretrain-video6", total_loss=-1.0)
    assert [title for title, _ in pretrainings(results)] == ["PixPro, six frames"]
