"""What is read again after a failure, how often, and what is not."""

import errno
import os
import threading

import pytest
from data_helpers import logged, noise, stop_clock
from PIL import Image

from pixpro_d2.data.io.reader import UnreadableImage, read_image
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.retry import may_pass, retry

LOGGER = "pixpro_d2.utils.retry"


def _failing(times, error):
    """A function that raises ``error`` so many times and then tells how often it was called; a list of its calls."""
    calls = []

    def read():
        calls.append(None)
        if len(calls) <= times:
            raise error
        return len(calls)

    return read, calls


def test_a_failure_that_passes_costs_nothing_but_time(monkeypatch):
    pauses = stop_clock(monkeypatch)
    read, _ = _failing(6, OSError(errno.EIO, "Input/output error", "a.jpg"))
    with logged(LOGGER) as messages:
        assert retry(read, 60) == 7
    assert pauses == [0.5, 1, 2, 4, 8, 8]
    assert len(messages) == 6 and all("Input/output error: 'a.jpg': trying again in" in m for m in messages)
    assert messages[1].endswith("trying again in 1.0 s, for at most 60 s.")


@pytest.mark.parametrize(("seconds", "expected"), [(0, []), (1.25, [0.5, 0.75])])
def test_patience_ends(monkeypatch, seconds, expected):
    pauses = stop_clock(monkeypatch)
    error = OSError(errno.ESTALE, "Stale file handle")
    read, calls = _failing(99, error)
    with pytest.raises(OSError) as caught:
        retry(read, seconds)
    assert caught.value is error
    assert pauses == expected and len(calls) == len(expected) + 1


def test_what_lasts_is_raised_at_once(tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"This is no picture.")
    (tmp_path / "cut.png").write_bytes(_png(tmp_path)[:100])
    (tmp_path / "folder.png").mkdir()
    for name in ("damaged.png", "cut.png", "missing.png", "folder.png", "damaged.png/inside.png"):
        with pytest.raises(UnreadableImage) as caught:
            read_image(str(tmp_path / name))
        assert not may_pass(caught.value), name
    for error in (
        ValueError("no number"),
        KeyError("key"),
        OSError("truncated"),
        OSError(errno.ENOENT, "no"),
        PermissionError(errno.EACCES, "no"),
    ):
        read, calls = _failing(1, error)
        with pytest.raises(type(error)):
            retry(read, 60)
        assert len(calls) == 1


def _png(folder):
    Image.fromarray(noise(0, 64, 64)).save(folder / "whole.png")
    return (folder / "whole.png").read_bytes()


def test_failures_of_the_system_may_pass():
    for number in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV):
        assert may_pass(OSError(number, os.strerror(number)))


def test_the_cause_counts():
    error = OSError(errno.EIO, "Input/output error")
    for kind in (UnreadableImage, UsageError):
        try:
            try:
                raise UnreadableImage("a.jpg") from error
            except UnreadableImage as unreadable:
                raise kind("outer") from unreadable
        except kind as outer:
            assert may_pass(outer)


@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_a_missing_file_whose_folder_is_gone_is_waited_for(tmp_path, mount_point_stays):
    mount, away = tmp_path / "mount", tmp_path / "away"
    mount.mkdir()
    (mount / "a.png").write_bytes(_png(tmp_path))
    mount.rename(away)
    if mount_point_stays:
        mount.mkdir()
    path = str(mount / "a.png")
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert may_pass(caught.value)
    timer = threading.Timer(0.8, lambda: away.rename(mount))  # a rename replaces an empty folder
    timer.start()
    assert retry(lambda: read_image(path), 10).size == (64, 64)
    timer.join()
