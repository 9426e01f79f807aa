"""Means, deviations and gains, by hand."""

from study_helpers import fine_tunings, result

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


def test_interrupted_runs_have_no_time_and_failed_metrics_no_value():
    results = fine_tunings("detection", "random", "5", [1.0, 2.0])
    first, second = results.values()
    first["resumed"] = True
    second["metrics"] = {}
    [row] = rows(PARTS["labels"], results)
    assert row.values == [1.0] and row.seconds == []


def test_parts_and_pretrainings_that_are_there():
    results = fine_tunings("segmentation", "video6", "frozen", [1.0])
    assert [key for key, *_ in parts_with_results(results)] == ["video"]
    results["pretrain-video6"] = result("pretrain-video6", total_loss=-1.0)
    assert [title for title, _ in pretrainings(results)] == ["PixPro, six frames"]
