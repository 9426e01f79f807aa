import pytest

from pixpro_d2.utils.files import read_json, write_json


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.json"
    assert write_json(path, {"größe": [1, 2]}) == str(path)
    assert read_json(path) == {"größe": [1, 2]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_and_missing_files_have_no_content(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") is None and read_json(tmp_path / "b.json") is None


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert read_json(tmp_path / "a.json") == 1
