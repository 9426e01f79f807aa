"""The results of an evaluation in words."""

from pixpro_d2.evaluation.summary import describe_results

BOXES = {"AP": 55.123, "AP50": 81.3, "APs": float("nan"), "AP-dog": 70.0}


def test_of_one_data_set():
    results = {"bbox": BOXES, "segm": {"AP": 2.0}}
    assert list(describe_results(results, ["voc_2007_test"])) == [
        "Result on voc_2007_test: bbox AP 55.12, AP50 81.30 (VOC's metric of 2007)",
        "Result on voc_2007_test: segm AP 2.00 (VOC's metric of 2007)",
    ]


def test_of_two_data_sets():
    results = {"first": {"bbox": {"AP": float("nan")}}, "second": {"bbox": BOXES}}
    assert list(describe_results(results, ["first", "second"])) == [
        "Result on first: bbox has no value",
        "Result on second: bbox AP 55.12, AP50 81.30",
    ]
