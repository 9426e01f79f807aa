"""Curves from metrics.json."""

import json
import math

from pixpro_d2.monitoring.curves import finite, medians, ratio, read_curves, thin


def read(tmp_path, *lines):
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_curves(path)


def test_the_later_line_of_an_iteration_counts_and_drops_what_came_after(tmp_path):
    """Recorded up to 59, then resumed with another period: what the first try had from 39 on is gone."""
    first = [{"iteration": i, "loss": 1.0 * i} for i in (19, 39, 59)]
    again = [{"iteration": 39, "loss": 5.0}, {"iteration": 49, "loss": 6.0}]
    curves, damaged = read(tmp_path, *first, *again)
    assert curves == {"loss": [(19, 19.0), (39, 5.0), (49, 6.0)]} and damaged == 0


def test_a_repeated_iteration_drops_the_later_values_of_all_curves(tmp_path):
    """The second try begins at 20, skips no step and is not evaluated; its lines of one writing are out of order."""
    first = [{"iteration": i, "loss": 1.0, "skipped": 7.0} for i in (19, 39, 59)]
    again = [{"iteration": 39, "loss": 2.0}, {"iteration": 29, "rank": 4.0}, {"iteration": 59, "loss": 3.0}]
    curves, _ = read(tmp_path, *first, {"iteration": 29, "rank": 5.0}, {"iteration": 60, "AP": 1.5}, *again)
    assert curves == {"loss": [(19, 1.0), (39, 2.0), (59, 3.0)], "skipped": [(19, 7.0)], "rank": [(29, 4.0)]}


def test_values_of_one_writing_may_come_out_of_order(tmp_path):
    """detectron2 writes what was recorded at 39 before what was recorded at 29, if it comes first in its dict."""
    curves, _ = read(tmp_path, {"iteration": 39, "lr": 0.1}, {"iteration": 29, "loss": 2.0})
    assert curves == {"lr": [(39, 0.1)], "loss": [(29, 2.0)]}


def test_damaged_lines_are_counted_and_nan_is_a_value(tmp_path):
    curves, damaged = read(
        tmp_path, '{"iteration": 1, "loss": NaN, "name": "x"}', "", '{"iteration": 2, "lo', "[1]", '{"loss": 3}'
    )
    assert damaged == 3 and list(curves) == ["loss"]
    assert curves["loss"][0][0] == 1 and math.isnan(curves["loss"][0][1]) and finite(curves["loss"]) == []


def test_medians_of_tenths():
    curve = [(i, float(value)) for i, value in enumerate([9, 1, 8] + [5] * 24 + [2, 100, 3])]
    assert medians(curve) == [8, *[5] * 8, 3]
    assert medians([(0, 4.0), (1, 2.0)]) == [4, 2]


def test_ratio_needs_both_values():
    assert ratio([(0, 1.0), (1, 3.0), (2, 5.0)], [(0, 2.0), (2, 0.0)]) == [(0, 0.5)]


def test_a_thinned_curve_keeps_its_ends_and_its_spikes():
    curve = [(i, math.sin(i / 50)) for i in range(5000)]
    curve[1234], curve[3456] = (1234, 40.0), (3456, -40.0)
    curve[2000] = (2000, float("nan"))
    few = thin(curve, 100)
    assert len(few) <= 102 and set(few) <= set(curve)
    assert few[0] == curve[0] and few[-1] == curve[-1] and {curve[1234], curve[3456]} <= set(few)
    assert [i for i, _ in few] == sorted({i for i, _ in few})
    assert thin(curve[:100], 100) == curve[:100]


def test_what_is_nan_throughout_is_thinned_too():
    assert len(thin([(i, float("nan")) for i in range(1000)], 10)) <= 7
