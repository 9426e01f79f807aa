"""The verdict on a run, on curves whose answer is known."""

import math
import random

import pytest

from pixpro_d2.monitoring.health import BAD, GOOD, WATCH, assess, verdict

SPREAD = 1 / 8  # 64 channels


def curve(*values):
    return [(20 * i, float(value)) for i, value in enumerate(values)]


def level(value):
    return curve(*[value] * 10)


FALLING = {"total_loss": curve(*range(10, 0, -1))}


def judge(**more):
    return verdict(assess(FALLING | {name.replace("__", "/"): c for name, c in more.items()}, SPREAD))


def test_a_healthy_run():
    grade, title, reasons = judge(
        feature_std__p3=level(0.1), feature_std__p4=level(0.12), images_without_pair__p3=level(0)
    )
    assert (grade, title) == (GOOD, "Looks healthy")
    assert reasons == (
        "the loss fell from 10 to 1, features are spread (standard deviation 80 % of 1/√C or more) and nearly all "
        "images have positive pairs."
    )


@pytest.mark.parametrize(
    ("curves", "grade", "says"),
    [
        ({"feature_std__p3": level(0.1), "feature_std__p5": level(0.0124)}, BAD, "the features of p5 have collapsed"),
        ({"feature_std__p5": level(0.0126)}, WATCH, "p5 point in similar directions (standard deviation 10 %"),
        ({"total_loss": curve(*range(10))}, WATCH, "the loss has not fallen: it went from 0 to 9"),
        ({"total_loss": curve(*range(10, 0, -1), float("nan"))}, BAD, "the loss is infinite or NaN"),
        ({"total_loss": curve(9, float("inf"), *range(8, 0, -1))}, WATCH, "the loss was infinite or NaN 1 times"),
        ({"feature_std__p3": curve(*[0.1] * 9, math.nan), "feature_std__p4": level(0.1)}, BAD, "of p3 are infinite"),
        ({"effective_rank__p3": curve(40, math.nan), "effective_rank__p4": curve(math.nan)}, BAD, "of p3, p4 are in"),
        ({"feature_std__p3": curve(0.1, math.nan, *[0.1] * 8), "effective_rank__p3": []}, GOOD, "features are spread"),
        ({"feature_std__p3": level(0.1), "test/feature_std/p3": curve(0.012)}, BAD, "p3 have collapsed on held-out"),
        ({"feature_std__p3": level(0.1), "test/feature_std/p3": curve(0.1, 0.1, 0.06)}, WATCH, "ions on held-out"),
        ({"feature_std__p3": level(0.1), "test/feature_std/p4": curve(0, 0.1)}, GOOD, "spread on held-out images"),
        ({"loss_pix_p5": curve(1, *[0] * 9), "loss_pix_p6": level(0)}, WATCH, "of p6 is always 0"),
        ({"loss_pix_p5": level(0), "loss_pix_p6": level(0)}, GOOD, "the loss fell"),
        ({"loss_variance_p3": curve(0.8, *[0.2] * 9), "loss_variance_p4": curve(0.8, *[0.4] * 9)}, GOOD,
         "the variance term of p4 is at 50 % of its first value"),
        ({"loss_variance_p3": curve(0.4, *[0.6] * 9)}, WATCH, "the variance term of p3 is at 150 % of its first value"),
        ({"prototypes_in_use__p3": level(60), "prototypes_in_use__p4": level(1)}, BAD, "wins nearly all pixels of p4"),
        ({"prototypes_in_use__p3": level(60), "prototypes_in_use__p4": level(31)}, GOOD, "31 prototypes or more are"),
        ({"prototypes_in_use__p3": level(60), "prototypes_in_use__p4": curve(64, *[15] * 9)}, WATCH,
         "p4 uses 15 prototypes, after 64 at the start"),
        ({"prototypes_in_use__p4": curve(64, *[17] * 9)}, GOOD, "17 prototypes or more are"),
        ({"images_without_pair__p3": level(0.2)}, WATCH, "20 % of the images have no positive pair on p3"),
        ({"match_accuracy__p3": level(0.3), "chance__p3": level(0.02)}, GOOD, "30 % of the pixels of p3 find"),
        ({"match_accuracy__p6": level(0.86), "chance__p6": level(0.7)}, GOOD, "86 % of the pixels of p6 find"),
        ({"match_accuracy__p6": level(0.84), "chance__p6": level(0.7)}, WATCH, "84 % of the pixels of p6 find"),
        (
            {f"{what}__p{i}": level(v) for i, a, c in ((3, 0.3, 0.02), (4, 0.1, 0.09)) for what, v in
             (("match_accuracy", a), ("chance", c))},
            WATCH,
            "10 % of the pixels of p4 find their match (by chance 9 %)",
        ),
    ],
)  # fmt: skip
def test_what_is_found(curves, grade, says):
    found, _, reasons = judge(**curves)
    assert found == grade and says in reasons


def test_the_worst_finding_decides_and_only_such_are_named():
    grade, title, reasons = judge(feature_std__p3=level(0), images_without_pair__p3=level(1))
    assert (grade, title) == (BAD, "Looks unhealthy") and "positive pair" not in reasons and "loss" not in reasons


def test_a_level_that_always_matches_is_no_reason():
    """A map of one pixel has a chance of 100 %."""
    coarse = {"match_accuracy__p6": level(1), "chance__p6": level(1)}
    assert "match" not in judge(**coarse)[2]
    assert "65 % of the pixels of p5" in judge(match_accuracy__p5=level(0.65), chance__p5=level(0.3), **coarse)[2]


def test_left_out_steps_are_worth_a_look():
    grade, _, reasons = verdict(assess({**FALLING, "skipped_steps": [(19, 1), (39, 3)]}))
    assert grade == WATCH and reasons == "3 steps were skipped because of infinite or NaN gradients."


def pixpro(end):
    """A loss of 100 epochs as PixPro's: it reaches -3.1 within the first, then rises with the target's momentum."""
    falls = [-0.09 - 3.01 * i / 60 for i in range(60)]
    return curve(*falls, *(-3.1 + (3.1 + end) * i / 5940 for i in range(5941)))


def test_a_loss_that_rises_with_the_momentum():
    for recorded in (pixpro(-2.2), pixpro(-2.2)[:600], pixpro(-2.2)[:60]):
        assert judge(total_loss=recorded)[0] == GOOD
    assert judge(total_loss=pixpro(-2.2))[2].startswith("the loss fell from -0.09 to -2.2")


def test_a_loss_that_is_back_where_it_came_from():
    grade, _, reasons = judge(total_loss=pixpro(-0.4))
    assert grade == WATCH and reasons == "the loss fell from -0.09 to -2.96, but is at -0.536 again."
    assert "has not fallen: it went from -0.09 to" in judge(total_loss=pixpro(1.0))[2]


@pytest.mark.parametrize("length", [10, 30, 300])
def test_noise_is_no_fall(length):
    """Of flat noisy losses, half end below their first reading; a fall of ten times the noise is seen."""
    draw = random.Random(0).gauss
    flat = [judge(total_loss=curve(*(draw(5, 1) for _ in range(length)))) for _ in range(200)]
    assert sum(grade == GOOD for grade, _, _ in flat) < 20
    assert any("has not fallen beyond its noise: it went from" in reasons for _, _, reasons in flat)
    falls = [judge(total_loss=curve(*(10 * 0.1 ** (i / length) + draw(0, 1) for i in range(length)))) for _ in range(9)]
    assert all(grade == GOOD for grade, _, _ in falls)


def test_a_dip_that_is_over_is_no_collapse():
    assert judge(feature_std__p3=curve(0.1, 0.01, 0.01, *[0.1] * 7))[0] == GOOD


def test_few_readings_are_too_early():
    few = {"total_loss": curve(2, 1, 1, 1), "feature_std/p3": curve(0, 0)}
    assert verdict(assess(few, SPREAD))[:2] == (None, "Too early to tell")
    assert verdict(assess({}, None))[0] is None
    assert verdict(assess({"test/feature_std/p3": curve(0)}, SPREAD))[0] is None


def test_a_distilled_run_is_judged_by_its_loss():
    """Without the pixel loss there are no projections to measure in training, only on held-out images."""
    grade, _, reasons = judge(loss_distill_p3=level(0.3), test__feature_std__p3=level(0.001))
    assert grade == GOOD and reasons == "the loss fell from 10 to 1."
