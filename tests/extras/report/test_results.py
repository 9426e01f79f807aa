"""Results on labelled data, side by side."""

from report_helpers import write_run

from pixpro_d2.extras.report.results import Score, is_per_class, is_result, table
from pixpro_d2.extras.report.runs import read_run


def test_which_values_are_results():
    for name in ("bbox/AP", "voc_test/segm/AP50", "sem_seg/mIoU", "classification/linear_top1"):
        assert is_result(name) and not is_per_class(name)
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
    assert table(runs) == (
        ["bbox/AP", "segm/AP"],
        [(0, [Score(25.0, 30.0, 199), None]), (2, [Score(22.0, 22.0, 99), Score(11.0, 11.0, 99)])],
    )
    assert table(runs, per_class=True) == (["bbox/AP-cat"], [(2, [Score(5.0, 5.0, 99)])])
    assert table(runs[1:2]) == ([], [])
