"""The record of a run's starts."""

from datetime import datetime

from pixpro_d2.monitoring.run_record import FILE, read_starts, record_start


def test_each_start_is_added(tmp_path):
    record_start(tmp_path, "first", {"torch": "1"})
    record_start(tmp_path, "second", {"torch": "2"})
    first, second = read_starts(tmp_path)
    assert first["command"] == "first" and first["machine"] == {"torch": "1"}
    assert second["command"] == "second" and second["machine"] == {"torch": "2"}
    assert datetime.fromisoformat(first["time"]) <= datetime.fromisoformat(second["time"])


def test_a_missing_or_damaged_record_has_no_starts_and_is_written_anew(tmp_path):
    assert read_starts(tmp_path) == []
    for damaged in ("{", "[]", "{}", '{"starts": null}', '{"starts": ["x", {}]}'):
        (tmp_path / FILE).write_text(damaged)
        assert read_starts(tmp_path) == []
    record_start(tmp_path, "again", {})
    assert [start["command"] for start in read_starts(tmp_path)] == ["again"]
