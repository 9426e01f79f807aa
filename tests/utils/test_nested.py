"""Nested dicts."""

import pytest
from detectron2.config import CfgNode

from pixpro_d2.utils.nested import flatten


@pytest.mark.parametrize("kind", [dict, CfgNode])
def test_values_by_their_whole_keys_in_order(kind):
    values = flatten(kind({"A": {"B": 1, "C": {"E": [1, 2]}}, "D": "x"}))
    assert list(values.items()) == [("A.B", 1), ("A.C.E", [1, 2]), ("D", "x")]
