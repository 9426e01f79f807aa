"""Members of zip and tar files: those that are found, their content, and every kind of damage."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from archive_helpers import WRITERS, names_below, write_tar, write_zip
from data_helpers import logged, write_images

from pixpro_d2.data.io import archives
from pixpro_d2.data.io.archives import list_members, read_member
from pixpro_d2.utils.errors import UsageError


def _everything(name):
    return True


def _members(path, wanted=_everything):
    return list(list_members(str(path), wanted))


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images" / "sub folder" / "日本", 2)
    (tmp_path / "images" / ("long " * 40)).write_bytes(b"content")  # in tar a header of its own
    return tmp_path / "images"


@pytest.mark.parametrize("kind", WRITERS)
def test_members_are_listed_in_order_and_read(tmp_path, folder, kind):
    path = WRITERS[kind](tmp_path / f"my a.{kind.upper()}", folder)
    members = _members(path)
    names = [member.partition("/")[2] if kind == "tar" else member for member in members]
    assert names == names_below(folder)
    for name, member in zip(names, members):
        assert read_member(str(path), member) == (folder / name).read_bytes()
    assert len(_members(path, lambda name: name.endswith("1.png"))) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_of_a_zip_file(tmp_path, folder, method):
    path = write_zip(tmp_path / "a.zip", folder, method=method)
    for member in _members(path):
        assert read_member(str(path), member) == (folder / member).read_bytes()


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_only_plain_files_of_a_tar_file_count(tmp_path, layout):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=layout) as archive:
        for name, kind in zip("abcd", (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname, header.size = kind, "a", 3 if name == "a" else 0
            archive.addfile(header, io.BytesIO(b"abc"))
    (member,) = _members(path)
    assert member.endswith("+3/a") and read_member(str(path), member) == b"abc"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_tar_file_is_recognised_whatever_its_name(tmp_path, folder, compress):
    path = write_tar(tmp_path / "a.tar", folder)
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(UsageError, match=r"a\.tar is a compressed tar file, .*: decompress it"):
        _members(path)


def test_zip_files_that_no_run_could_read(tmp_path, folder):
    path = write_zip(tmp_path / "a.zip", folder)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")

    def altered(offset, value):  # of the first entry of the central directory
        place = directory + offset
        path.write_bytes(content[:place] + value.to_bytes(2, "little") + content[place + 2 :])

    altered(8, 1)
    with pytest.raises(UsageError, match=r"a\.zip is encrypted: unpack it with its password"):
        _members(path)
    assert len(_members(path, lambda name: name.endswith("1.png"))) == 1  # another member is encrypted
    altered(10, 9)
    with pytest.raises(UsageError, match=r"a\.zip has members of compression method 9, .* unpack it"):
        _members(path)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_cut_off(tmp_path, kind, share):
    write_images(tmp_path / "images", 20, size=(40, 40))
    path = WRITERS[kind](tmp_path / f"a.{kind}", tmp_path / "images")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content.rstrip(b"\0")))])
    with pytest.raises(UsageError, match=rf"a\.{kind} is .*cut off.*: copy it again\.$"):
        _members(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_other_content(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"This is no archive. " * 100)
    with pytest.raises(UsageError, match=rf"a\.{kind} is no {kind} file"):
        _members(path)
    with pytest.raises(UsageError, match=rf"b\.{kind} cannot be read \(No such file"):
        _members(tmp_path / f"b.{kind}")


def test_a_damaged_header_in_the_middle_of_a_tar_file(tmp_path):
    write_images(tmp_path / "images", 3)
    path = write_tar(tmp_path / "a.tar", tmp_path / "images", format=tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    place = int(_members(path)[1].partition("+")[0]) - tarfile.BLOCKSIZE
    content[place + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"a\.tar is damaged or cut off at byte {place}: copy it again"):
        _members(path)


def test_a_tar_file_without_an_end_mark_may_be_cut_off(tmp_path, folder):
    path = write_tar(tmp_path / "a.tar", folder)
    *_, last = members = _members(path)
    offset, size = map(int, last.partition("/")[0].split("+"))
    with open(path, "rb+") as file:
        file.truncate(offset + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    with logged("pixpro_d2.data") as messages:
        assert _members(path) == members
    assert len(messages) == 1 and "a.tar has no end mark" in messages[0]


@pytest.mark.parametrize("kind", WRITERS)
def test_members_that_cannot_be_read(tmp_path, folder, kind, monkeypatch):
    path = str(WRITERS[kind](tmp_path / f"a.{kind}", folder))
    member = _members(path)[0]
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 6)
    with pytest.raises(ValueError, match="7 bytes, more than the 6 that are read"):
        read_member(path, member)
    with pytest.raises((KeyError, ValueError)):
        read_member(path, "nowhere.png")


def test_a_tar_file_that_is_cut_off_after_it_was_listed(tmp_path, folder):
    path = write_tar(tmp_path / "a.tar", folder)
    *_, last = _members(path)
    with open(path, "rb+") as file:
        file.truncate(int(last.partition("+")[0]) + 3)
    with pytest.raises(ValueError, match="ends before this member does"):
        read_member(str(path), last)
