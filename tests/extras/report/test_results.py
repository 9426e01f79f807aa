"""Results on labelled data, side by side."""

from dataclasses import astuple

from report_helpers import CONFIG, write_run

from pixpro_d2.extras.report.results import Score, is_main, is_per_class, is_result, scores, table
from pixpro_d2.extras.report.runs import read_run


def test_which_values_are_results():
    for name in ("bbox/AP", "voc_test/segm/AP50", "sem_seg/mIoU", "classification/linear_top1"):
        assert is_result(name) and not is_per_class(name)
        assert is_main(name) or name == "voc_test/segm/AP50"
    assert is_main("sem_seg/IoU") and not is_main("sem_seg/IoU-road")  # Cityscapes' own evaluation
    for name in ("total_loss", "feature_std/p3", "fast_rcnn/cls_accuracy", "bbox"):
        assert not is_result(name)
    assert is_per_class("bbox/AP-cat") and is_per_class("voc/sem_seg/IoU-road") and not is_per_class("bbox/APs")


def test_a_table_of_last_and_best(tmp_path):
    lines = [
        [{"iteration": i, "bbox/AP": ap} for i, ap in ((99, 20.0), (199, 30.0), (299, 25.0), (399, float("nan")))],
        [{"iteration": 99, "total_loss": 1.0}],
        [{"iteration": 99, "bbox/AP": 22.0, "bbox/AP-cat": 5.0, "segm/AP": 11.0}],
    ]
    runs = [read_run(write_run(tmp_path / str(i), lines[i]), str(i)) for i in range(3)]
    names, [(first, [with_nan, missing]), second] = table(runs)
    assert (names, first, missing) == (["bbox/AP", "segm/AP"], 0, None)
    assert str(with_nan.last) == "nan" and astuple(with_nan)[1:] == (30.0, 199, 399, True)
    assert second == (2, [Score(22.0, 22.0, 99, 99, False), Score(11.0, 11.0, 99, 99, False)])
    assert table(runs, per_class=True) == (["bbox/AP-cat"], [(2, [Score(5.0, 5.0, 99, 99, False)])])
    assert table(runs[1:2]) == ([], [])


def test_the_last_result_is_final_at_the_end_of_training(tmp_path):
    """After 200 iterations, or after the recorded iterations if no config tells the length."""
    cases = [(CONFIG, 198, False), (CONFIG, 199, True), (CONFIG, 200, True), ({}, 198, False), ({}, 200, True)]
    for number, (config, iteration, is_final) in enumerate(cases):
        lines = [{"iteration": 199, "total_loss": 1.0}, {"iteration": iteration, "bbox/AP": 10.0}]
        run = read_run(write_run(tmp_path / str(number), lines, config), "run")
        assert scores(run) == {"bbox/AP": Score(10.0, 10.0, iteration, iteration, is_final)}
