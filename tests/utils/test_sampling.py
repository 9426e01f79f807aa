import pytest

from pixpro_d2.utils.sampling import evenly_spread, scattered


@pytest.mark.parametrize(
    ("count", "expected"), [(0, ""), (1, "a"), (2, "ac"), (3, "abd"), (5, "abcde"), (10, "aabbccddee")]
)
def test_items_are_evenly_spread_and_repeat_if_there_are_fewer(count, expected):
    assert "".join(evenly_spread("abcde", count)) == expected


def test_numbers_are_scattered():
    assert [round(scattered(i), 3) for i in range(4)] == [0, 0.618, 0.236, 0.854]
