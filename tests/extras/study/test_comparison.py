"""Means, errors and gains of nested results, by hand."""

import pytest
from study_helpers import fine_tunings, result

from pixpro_d2.extras.study.comparison import (
    averages,
    cannot_judge,
    counts,
    deviation,
    estimate,
    parts_with_results,
    pretrainings,
    rows,
)
from pixpro_d2.extras.study.methods import PARTS
from pixpro_d2.utils.errors import UsageError

NESTED = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 5.0, (1, 1): 7.0, (2, 4): 4.0}


def test_fine_tunings_of_a_pretraining_are_averaged_first():
    assert averages(NESTED) == [2.0, 6.0, 4.0]
    assert averages(dict(reversed(NESTED.items()))) == [2.0, 6.0, 4.0]
    # The sample deviation of 2, 6 and 4 is 2, divided by the root of 3; all five values have the mean 4 and the squares
    # 9 + 1 + 1 + 9 + 0, divided by 4.
    assert estimate(NESTED) == "4.0 ± 1.2" and deviation(NESTED) == "2.2"
    assert estimate({(0, 0): -1.0, (0, 1): 2.0}) == "0.5" and estimate({(3, 0): 1.0}, "+") == "+1.0"
    assert estimate({(0, 0): -0.04}, "+") == "+0.0" and estimate({(0, 0): -0.06}, "+") == "-0.1"
    assert estimate({}) == deviation({}) == deviation({(0, 0): 1.0}) == ""


@pytest.mark.parametrize(
    ("pairs", "words"), [([(0, 0)], "1 x 1"), ([(0, 0), (0, 2), (1, 0), (1, 1)], "2 x 2"), (NESTED, "3 x 1-2")]
)
def test_numbers_of_seeds(pairs, words):
    assert counts(dict.fromkeys(pairs, 0.0)) == words


def test_results_of_other_data_are_not_averaged():
    words = "python train_net.py DATASETS.TRAIN cells@train_20_seed{1} SEED {1} MODEL.WEIGHTS w{1} OUTPUT_DIR {0}"
    results = fine_tunings("cells", "pixpro", "20", [10.0, 20.0], [30.0])
    for number, (name, found) in enumerate(results.items()):
        found["command"] = words.format(name, number)
        found["pretraining"] = f"python train_net.py DATASETS.TRAIN photographs SEED {number}"
    assert rows(PARTS["cells"], results)[0].values == {(0, 0): 10.0, (0, 1): 20.0, (1, 0): 30.0}
    first, *_, last = results
    for key, before, after in (("command", "cells@", "others@"), ("pretraining", "photographs", "others")):
        changed = {**results, last: {**results[last], key: results[last][key].replace(before, after)}}
        with pytest.raises(UsageError, match=f"^The results of {first} and {last} have different commands"):
            rows(PARTS["cells"], changed)


def test_gains_are_of_the_same_pair():
    results = fine_tunings("scenes", "random", "all", [10.0, 20.0], [30.0])
    results |= fine_tunings("scenes", "pixpro", "all", [13.0, 21.0, 99.0], [35.0], [99.0])
    random, pixpro = rows(PARTS["scenes"], results)
    assert (random.init, random.gains) == ("random", {})
    assert random.values == {(0, 0): 10.0, (0, 1): 20.0, (1, 0): 30.0}
    assert (pixpro.init, pixpro.gains) == ("PixPro as in the paper", {(0, 0): 3.0, (0, 1): 1.0, (1, 0): 5.0})
    assert estimate(pixpro.gains, "+") == "+3.5 ± 1.5"  # of 2 and 5
    assert pixpro.variant == "all images" and len(pixpro.values) == 5


def test_initialisations_with_like_names_are_told_apart():
    results = fine_tunings("scenes", "pixpro_term", "all", [1.0]) | fine_tunings("scenes", "pixpro", "all", [2.0])
    assert [(row.init, row.values) for row in rows(PARTS["scenes"], results)] == [
        ("PixPro as in the paper", {(0, 0): 2.0}), ("PixPro with the terms", {(0, 0): 1.0}),
    ]  # fmt: skip


def test_gains_on_a_frozen_backbone_are_over_an_untrained_one():
    results = {}
    for init, variant, value in (
        ("untrained", "frozen", 5.0), ("video1", "frozen", 8.0), ("random", "tuned", 20.0), ("video1", "tuned", 21.0),
    ):  # fmt: skip
        results |= fine_tunings("driving", init, variant, [value])
    assert [(row.init, list(row.gains.values())) for row in rows(PARTS["video"], results)] == [
        ("random, norms adapted", []), ("PixPro, one frame", [3.0]), ("random", []), ("PixPro, one frame", [1.0]),
    ]  # fmt: skip


def test_where_the_control_gains_little_a_task_cannot_judge():
    results = fine_tunings("objects", "random", "5", [10.0, 10.0], [12.0]) | fine_tunings(
        "objects", "random", "20", [20.0]
    )
    results |= fine_tunings("objects", "pixpro", "5", [30.0]) | fine_tunings("objects", "supervised", "20", [23.0])
    # Averaged first, 4 and 1 give 2.5; over all three fine-tunings it would be 3.
    results |= fine_tunings("objects", "supervised", "5", [14.0, 14.0], [13.0])
    assert cannot_judge(rows(PARTS["objects"], results)) == [("5 images a class", 2.5)]
    without = {name: value for name, value in results.items() if "supervised" not in name}
    assert cannot_judge(rows(PARTS["objects"], without)) == []


def test_a_result_without_the_metric_is_refused():
    results = fine_tunings("objects", "random", "5", [1.0], [2.0])
    results["objects-random-5-seed1-0"]["metrics"] = {"total_loss": 1.0}
    with pytest.raises(UsageError, match="result of objects-random-5-seed1-0 has no finite 'bbox/AP'"):
        rows(PARTS["objects"], results)


def test_parts_and_pretrainings_that_are_there():
    results = fine_tunings("driving", "video6", "frozen", [1.0])
    assert [key for key, *_ in parts_with_results(results)] == ["video"]
    names = ["pretrain-video6-seed10", "pretrain-video6-seed9", "pretrain-pixpro_term-seed0"]
    results |= {name: result(name, total_loss=-1.0) for name in names}
    found = [(title, [run["name"] for run in runs]) for title, runs in pretrainings(results)]
    assert found == [("PixPro with the terms", names[2:]), ("PixPro, six frames", [names[1], names[0]])]
