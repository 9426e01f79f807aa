"""Warnings that are read from log.txt."""

from report_helpers import LOG

from pixpro_d2.extras.report.log import read_warnings


def read(tmp_path, text):
    (tmp_path / "log.txt").write_text(text)
    return read_warnings(tmp_path / "log.txt")


def test_warnings_that_differ_in_numbers_are_of_one_kind(tmp_path):
    errors = "[11/21 18:41:03] d2 ERROR: lost\n"
    expected = [("Skipped an unreadable image (1 so far): a.jpg", 2), ("lost", 1)]
    assert read(tmp_path, LOG + errors) == expected


def test_colours_are_removed_and_text_that_is_no_log_is_nothing(tmp_path):
    text = "\x1b[32m[11/21 18:40:50] d2 WARNING: \x1b[0mhot\nWARNING: not a log line\n"
    assert read(tmp_path, text) == [("hot", 1)]
    assert read(tmp_path, "") == []
