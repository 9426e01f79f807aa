"""The exception for users' mistakes."""

import pytest
from torch.utils.data import DataLoader

from pixpro_d2.errors import UsageError, check_choice


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UsageError("a.png is broken: remove it.")


def test_a_worker_s_traceback_stays_out_of_the_message():
    with pytest.raises(UsageError) as caught:
        list(DataLoader(Broken(), num_workers=1))
    assert str(caught.value) == "a.png is broken: remove it."


def test_choices_are_listed():
    check_choice("KEY", "b", ("a", "b"))
    with pytest.raises(UsageError, match="^KEY is 'x'; it must be a, b or c.$"):
        check_choice("KEY", "x", ("a", "b", "c"))
    with pytest.raises(UsageError, match="^KEY is 'x'; it must be a.$"):
        check_choice("KEY", "x", {"a": 1})
