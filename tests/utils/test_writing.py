"""Files that are complete or not there."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from pixpro_d2.checkpoint.saving import dump
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.files import report_write_errors, write_file


def write(contents):
    return lambda path: Path(path).write_bytes(contents)


def test_hash_is_the_files_and_stands_before_the_suffix(tmp_path):
    path = write_file(str(tmp_path / "a.b.pth"), write(b"weights"), with_hash=True)
    digest = hashlib.sha256(b"weights").hexdigest()[:8]
    assert path == str(tmp_path / f"a.b-{digest}.pth")
    assert [file.name for file in tmp_path.iterdir()] == [f"a.b-{digest}.pth"]


def test_failure_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"good")

    def fail(out):
        write(b"half")(out)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_file(str(path), fail)
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"good")
    (tmp_path / "a.pth.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        write_file(str(path), write(b"more"))
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"good" and list(tmp_path.iterdir()) == [path]


def test_a_mount_may_refuse_chmod(tmp_path, monkeypatch):
    """As CIFS does; safetensors asks for it, bytes do not."""
    asked = []

    def refuse(path, mode):
        asked.append(path)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr("os.chmod", refuse)
    path = tmp_path / "a"
    write_file(str(path), write(b"bytes"))
    assert path.read_bytes() == b"bytes" and asked == []
    write_file(str(path), lambda partial: safetensors.torch.save_file({"w": torch.ones(1)}, partial))
    assert safetensors.torch.load_file(path)["w"] == 1 and asked == [f"{path}.tmp"]


@pytest.mark.parametrize(
    "write_to",
    [
        write(b"bytes"),
        lambda path: safetensors.torch.save_file({"w": torch.zeros(1)}, path),
        lambda path: dump({"w": torch.zeros(1)}, path),
        lambda path: Image.new("L", (1, 1)).save(path, format="PNG"),
    ],
    ids=["bytes", "safetensors", "torch", "picture"],
)
@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_are_those_of_any_new_file(write_to, umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_file(str(tmp_path / "a"), write_to)
        (tmp_path / "a.tmp").write_bytes(b"left by a killed process")
        (tmp_path / "a.tmp").chmod(0o400)
        write_file(str(tmp_path / "a"), write_to)  # in place of the first
    finally:
        os.umask(before)
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("a", mode)]


def test_contents_are_on_the_disk_before_the_name_and_the_name_thereafter(tmp_path, monkeypatch):
    """What a loss of power could undo, in the order in which it is made to last."""
    order, fsync, replace = [], os.fsync, os.replace

    def watched_fsync(descriptor):
        order.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(source, target):
        order.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    path = write_file(str(tmp_path / "a.pth"), write(b"weights"))
    assert order == [os.stat(path).st_ino, "replace", os.stat(tmp_path).st_ino]


def test_a_name_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file("a.txt", write(b"here"))
    assert (tmp_path / "a.txt").read_bytes() == b"here"


def test_a_full_disk_is_one_sentence(tmp_path):
    """torch.save reports what the disk refused as a RuntimeError of its own."""
    path = str(tmp_path / "a.pth")
    sentence = f"^{path} cannot be written \\(No space left on device\\): make room there, or name another file.$"

    class FullDisk:
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for write_part in (lambda: FullDisk().write(b""), lambda: torch.save({"a": torch.zeros(3)}, FullDisk())):
        with pytest.raises(UsageError, match=sentence), report_write_errors(path):
            write_part()
    with pytest.raises(RuntimeError, match="another"), report_write_errors(path):
        raise RuntimeError("another")
