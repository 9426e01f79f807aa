"""Nested dicts."""

import pytest
from detectron2.config import CfgNode

from pixpro_d2.utils.nested import flatten, place_of, set_value, value_of


@pytest.mark.parametrize("kind", [dict, CfgNode])
def test_values_by_their_whole_keys_in_order(kind):
    values = flatten(kind({"A": {"B": 1, "C": {"E": [1, 2]}}, "D": "x"}))
    assert list(values.items()) == [("A.B", 1), ("A.C.E", [1, 2]), ("D", "x")]


def test_a_value_is_set_in_its_place():
    node = {"A": {"B": {"C": 1}}, "D": 2}
    set_value(node, "A.B.C", "x")
    set_value(node, "D", None)
    assert node == {"A": {"B": {"C": "x"}}, "D": None}
    assert value_of(node, "A.B") is node["A"]["B"] and value_of(node, "A.B.C") == "x"
    assert place_of(node, "D") == (node, "D") and place_of(node, "A.B") == (node["A"], "B")
