"""Differences between configs."""

from pixpro_d2.extras.report.differences import differing, flatten, side_by_side


def test_only_keys_that_differ_remain():
    first = flatten({"A": {"B": 1, "C": [1, 2]}, "D": "x", "E": 5})
    second = flatten({"A": {"B": 2, "C": [1, 2]}, "D": "x", "F": None})
    assert first == {"A.B": 1, "A.C": [1, 2], "D": "x", "E": 5}
    rows = side_by_side([first, second])
    assert rows[1:3] == [("A.C", ["[1, 2]"] * 2), ("D", ["x", "x"])]
    assert differing(rows) == [("A.B", ["1", "2"]), ("E", ["5", None]), ("F", [None, "None"])]
