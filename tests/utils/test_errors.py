"""The exception for users' mistakes."""

import pytest
from torch.utils.data import DataLoader

from pixpro_d2.utils.errors import UsageError, check_choice, exit_once

MESSAGES = ["a.png is broken: remove it.", "a.png (UsageError: told before) is broken: remove it.", "UsageError: a: b."]


class Broken:
    def __init__(self, message):
        self.message = message

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise UsageError("the reason")
        except UsageError as error:
            raise UsageError(self.message) from error


@pytest.mark.parametrize("message", MESSAGES[:2])
def test_a_worker_s_traceback_stays_out_of_the_message(message):
    with pytest.raises(UsageError) as caught:
        list(DataLoader(Broken(message), num_workers=1))
    assert str(caught.value) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_kept_whole(message):
    assert str(UsageError(message)) == message


def test_choices_are_listed():
    check_choice("KEY", "b", ("a", "b"))
    with pytest.raises(UsageError, match="^KEY is 'x'; it must be a, b or c.$"):
        check_choice("KEY", "x", ("a", "b", "c"))
    with pytest.raises(UsageError, match="^KEY is 'x'; it must be a.$"):
        check_choice("KEY", "x", {"a": 1})


@pytest.mark.parametrize(("rank", "code"), [(None, "error: a: b."), ("0", "error: a: b."), ("1", 1)])
def test_one_process_of_torchrun_prints_the_message(rank, code, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as caught:
        exit_once(UsageError("a: b."))
    assert caught.value.code == code
