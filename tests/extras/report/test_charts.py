"""Which curves are drawn where."""

import pytest
from report_helpers import healthy_lines, write_run

from pixpro_d2.extras.report.charts import OTHER, as_data, build_charts, drawn_curves, split_name
from pixpro_d2.extras.report.runs import read_run


@pytest.fixture
def run(tmp_path):
    more = {"match_accuracy__p3": 0.4, "chance__p3": 0.05, "rpn__num_pos": 3.0}
    return read_run(write_run(tmp_path / "run", healthy_lines(**more)), "run")


def by_title(built):
    return {family.title: charts for family, charts in built}


def test_many_lines_share_a_number_of_points(run):
    run.curves["total_loss"] = [(i, float(i)) for i in range(3000)]
    for count, points in ((1, 800), (20, 50_000 // (20 * len(drawn_curves(run))))):
        lines = by_title(build_charts([(i, run) for i in range(count)]))["Loss"][0].lines
        assert points / 2 < len(lines[0][2]) <= points + 2


def test_names():
    assert split_name("loss_pix_p3") == ("loss", "p3") and split_name("total_loss") == ("loss", "total")
    assert split_name("loss_variance_p3") == ("loss_variance", "p3") and split_name("loss_ins") == ("loss", "ins")
    assert split_name("loss_distill_p3") == ("loss_distill", "p3")
    assert split_name("feature_std/p3") == ("feature_std", "p3") and split_name("lr") == ("lr", "")
    assert split_name("held_out/match_accuracy/p3") == ("match_accuracy", "held_out/p3")
    assert split_name("prototypes_in_use/p3") == ("prototypes_in_use", "p3")
    assert split_name("voc/bbox/AP") == ("result", "voc/bbox/AP") and split_name("rpn/x") == (None, "rpn/x")


def test_one_run_has_a_chart_for_each_question(run):
    charts = by_title(build_charts([(0, run)]))
    assert [line[:2] for line in charts["Loss"][0].lines] == [("total", 0), ("p3", 1), ("p4", 2)]
    spread = charts["Spread of features"]
    assert len(spread) == 1 and [name for name, _, _ in spread[0].lines] == ["p3", "p4"]
    assert spread[0].references == [("spread", 1 / 8), ("collapsed", pytest.approx(1 / 80))]
    assert charts["Match accuracy"][0].references == [("chance p3", 0.05)]
    assert charts["Images per second"][0].lines[0][2][0] == (19, 32)
    assert charts["Waiting for data"][0].lines[0][2][0] == (19, pytest.approx(0.1))
    assert charts["GPU memory"][0].lines[0][2][:2] == [(19, 2048.0), (39, 2048.0)]
    assert [chart.title for chart in charts[OTHER]] == ["rpn/num_pos"] and list(charts)[-1] == OTHER


def test_speed_and_waiting_are_of_means(tmp_path):
    """A median of 0.5 s hides a few steps of a burst; an old run has no other time."""
    old = {"data_time": 0.6}
    for more, speed, waiting in ((old, 32, 1), (old | {"step_time": 0.8}, 20, 0.75)):
        run = read_run(write_run(tmp_path / str(speed), healthy_lines(**more)), "run")
        charts = by_title(build_charts([(0, run)]))
        assert charts["Images per second"][0].lines[0][2][0] == (19, speed)
        assert charts["Waiting for data"][0].lines[0][2][0] == (19, pytest.approx(waiting))
        assert [chart.title for chart in charts.get(OTHER, [])] == []


def test_of_several_runs_each_level_has_a_chart(run, tmp_path):
    lines = [{key: value for key, value in line.items() if "p4" not in key} for line in healthy_lines()]
    other = read_run(write_run(tmp_path / "other", lines), "other")
    charts = by_title(build_charts([(0, run), (3, other)]))
    assert {chart.title: [line[:2] for line in chart.lines] for chart in charts["Loss"]} == {
        "total": [("run", 0), ("other", 3)], "p3": [("run", 0)], "p4": [("run", 0)],
    }  # fmt: skip
    assert [len(chart.lines) for chart in charts["Spread of features"]] == [2, 1]
    assert len(charts["Spread of features"][0].references) == 2  # both runs have the same


def test_results_are_drawn_when_there_are_several(tmp_path):
    lines = [{"iteration": i, "bbox/AP": 20.0, "bbox/AP-cat": 1.0} for i in (99, 199)]
    several, one = (read_run(write_run(tmp_path / str(len(x)), x), "run") for x in (lines, lines[:1]))
    assert list(by_title(build_charts([(0, several)]))) == ["Results"]
    assert build_charts([(0, one)]) == []


def test_data_hold_what_json_can(run):
    chart = by_title(build_charts([(0, run)]))["Loss"][0]
    chart.lines[0][2][:2] = [(19, float("nan")), (39, 1.23456789)]
    assert as_data(chart)["lines"][0]["points"][:2] == [[19, None], [39, 1.2346]]
