"""The verdict on read-outs beside random weights, by hand."""

from math import nan

from pixpro_d2.extras.report.transfer import table, verdict

RANDOM = {"linear_probe/p3": 0.1, "linear_probe/p4": 0.1, "effective_rank/p3": 80, "effective_rank/p4": 80,
          "height_r2/p3": 0.5, "height_r2/p4": 0.5}  # fmt: skip
FOUND = {"linear_probe/p3": 0.2, "linear_probe/p4": 0.2, "effective_rank/p3": 40, "effective_rank/p4": 90,
         "height_r2/p3": 0.09, "height_r2/p4": 0.1}  # fmt: skip


def test_verdict():
    assert verdict(FOUND, RANDOM) == (
        "The linear probe is above random weights on all levels; the effective rank is above random weights on p4; the "
        "position is readable on p4."
    )
    assert verdict(RANDOM, RANDOM).startswith("The linear probe is above random weights on no level")
    one_video = FOUND | {"height_r2/p3": nan}
    assert verdict(one_video, RANDOM).endswith("; the position is readable on all levels.")
    assert verdict(one_video | {"height_r2/p4": nan}, RANDOM).endswith("; no position is measured.")


def test_levels_without_a_measurement_do_not_count():
    unlabelled = {"linear_probe/p3": nan, "linear_probe/p4": nan}
    assert verdict(FOUND | unlabelled, RANDOM | unlabelled).startswith("No linear probe is measured; the effective")
    worse_at_p4 = FOUND | {"linear_probe/p4": 0.05}
    assert verdict(worse_at_p4, RANDOM).startswith("The linear probe is above random weights on p3;")
    assert verdict(worse_at_p4, RANDOM | {"linear_probe/p3": nan}).startswith(
        "The linear probe is above random weights on no"
    )


def test_table_has_random_weights_beside():
    assert table(FOUND, RANDOM).splitlines()[2].split() == ["linear_probe/p3", "0.200", "0.100"]
    assert table(FOUND).splitlines()[2].split() == ["linear_probe/p3", "0.200"]


def test_the_table_says_what_a_linear_probe_is():
    assert "linear_probe, from 0 to 1: the mean IoU" in table(FOUND)
    assert "linear_probe" not in table({"effective_rank/p3": 40})
