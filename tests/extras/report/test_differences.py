"""Differences between configs."""

from pixpro_d2.extras.report.differences import differing, side_by_side


def test_only_keys_that_differ_remain():
    first, second = {"A.B": 1, "A.C": [1, 2], "D": "x", "E": 5}, {"A.B": 2, "A.C": [1, 2], "D": "x", "F": None}
    rows = side_by_side([first, second])
    assert rows[1:3] == [("A.C", ["[1, 2]"] * 2), ("D", ["x", "x"])]
    assert differing(rows) == [("A.B", ["1", "2"]), ("E", ["5", None]), ("F", [None, "None"])]
