"""Files that are complete or not there."""

import hashlib

import pytest

from pixpro_d2.checkpoint.writing import write_file


def test_hash_is_the_files_and_stands_before_the_suffix(tmp_path):
    path = write_file(str(tmp_path / "a.b.pth"), lambda out: open(out, "wb").write(b"weights"), with_hash=True)  # noqa: SIM115
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    assert path == str(tmp_path / f"a.b-{digest}.pth")
    assert [file.name for file in tmp_path.iterdir()] == [f"a.b-{digest}.pth"]


def test_failure_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"good")

    def fail(out):
        with open(out, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_file(str(path), fail)
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]
