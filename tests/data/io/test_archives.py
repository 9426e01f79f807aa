"""Members of zip and tar files: those that are found, their content, and every kind of damage."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
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
def test_only_files_and_hard_links_of_a_tar_file_count(tmp_path, layout):
    kinds = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
    path = _write_tar(tmp_path / "a.tar", [(name, kind, "a") for name, kind in zip("abcde", kinds)], layout)
    file, link = _members(path)
    assert file.endswith("+1/a") and link == file[:-1] + "d"
    assert read_member(str(path), file) == read_member(str(path), link) == b"0"


def _write_tar(path, entries, layout=tarfile.PAX_FORMAT):
    """Write a tar file of members (name, type, target); the content of a file is its place in ``entries``."""
    with tarfile.open(path, "w", format=layout) as archive:
        for i, (name, kind, target) in enumerate(entries):
            header, content = tarfile.TarInfo(name), str(i).encode()
            header.type, header.linkname = kind, target
            header.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(header, io.BytesIO(content))
    return path


def _contents(path, wanted=_everything):
    """Pairs (name, content) of the members of a tar file."""
    return [(member.partition("/")[2], read_member(str(path), member)) for member in _members(path, wanted)]


def test_a_hard_link_has_the_file_that_it_has_after_unpacking(tmp_path):
    file, link = tarfile.REGTYPE, tarfile.LNKTYPE
    entries = [
        ("./.cache/blob", file, ""),  # unwanted itself
        ("a.png", file, ""),
        ("b.png", link, "./a.png"),
        ("c.png", link, ".cache/blob"),
        ("a.png", file, ""),
        ("d.png", link, "a.png"),
        ("e.png", link, "d.png"),
        ("b.txt", link, "a.png"),
    ]
    path = _write_tar(tmp_path / "a.tar", entries)
    with logged("pixpro_d2.data") as messages:
        found = _contents(path, lambda name: name.endswith(".png"))
    expected = [("b.png", b"1"), ("c.png", b"0"), ("a.png", b"4"), ("d.png", b"4"), ("e.png", b"4")]
    assert found == expected and not messages


def test_links_without_a_file_in_the_tar_file_are_counted(tmp_path):
    symbolic, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    entries = [
        ("a.png", tarfile.REGTYPE, ""),
        ("b.png", symbolic, "a.png"),
        ("notes.txt", symbolic, "a.png"),
        ("c.png", symbolic, "/elsewhere/c.png"),
        ("d.png", hard, "later.png"),
        ("later.png", tarfile.REGTYPE, ""),
        ("e.png", hard, "b.png"),
        ("f.png", hard, "f.png"),
    ]
    path = _write_tar(tmp_path / "a.tar", entries)
    with logged("pixpro_d2.data") as messages:
        assert _contents(path, lambda name: name.endswith(".png")) == [("a.png", b"0"), ("later.png", b"5")]
    symbolic_links, hard_links = messages
    assert symbolic_links == f"Skipped 2 images of {path} that are symbolic links: pack the archive again with tar -h."
    assert hard_links.startswith(f"Skipped 3 images of {path} that are hard links to files that the archive lacks: ")
    assert hard_links.endswith("with tar --hard-dereference.")


def test_sparse_files_are_counted(tmp_path):
    (tmp_path / "a.bmp").touch()
    os.truncate(tmp_path / "a.bmp", 10 << 20)
    subprocess.run(["tar", "-cSf", tmp_path / "a.tar", "-C", tmp_path, "a.bmp"], check=True)
    with logged("pixpro_d2.data") as messages:
        assert not _members(tmp_path / "a.tar")
    assert len(messages) == 1 and "Skipped 1 images" in messages[0] and "without the option -S" in messages[0]


def test_links_of_gnu_tar(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"content")
    os.link(folder / "a.png", folder / "b.png")
    (folder / "c.png").symlink_to("a.png")
    expected = ["./a.png", "./b.png", "./c.png"]
    for options, names in (("-cf", expected[:2]), ("-chf", expected)):
        subprocess.run(["tar", options, tmp_path / "a.tar", "--sort=name", "-C", folder, "."], check=True)
        assert _contents(tmp_path / "a.tar") == [(name, b"content") for name in names]


@pytest.mark.parametrize("option", ["-rf", "-uf"])
def test_only_the_last_version_of_a_member_counts(tmp_path, option):
    folder, path = tmp_path / "images", tmp_path / "a.tar"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(b"old " + name.encode())
        os.utime(folder / name, (1e9, 1e9))
    subprocess.run(["tar", "-cf", path, "--sort=name", "-C", folder, "."], check=True)
    (folder / "a.png").write_bytes(b"new")
    names = ["./a.png", "a.png"] if option == "-rf" else ["./a.png"]  # two spellings of one file
    subprocess.run(["tar", option, path, "-C", folder, *names], check=True)
    assert _contents(path) == [("./b.png", b"old b.png"), ("./c.png", b"old c.png"), (names[-1], b"new")]


def test_the_last_version_may_be_a_link(tmp_path):
    entries = [("a.png", tarfile.REGTYPE, ""), ("b.png", tarfile.REGTYPE, ""), ("a.png", tarfile.SYMTYPE, "b.png")]
    assert _contents(_write_tar(tmp_path / "a.tar", entries)) == [("b.png", b"1")]
    entries = [("a.png", tarfile.SYMTYPE, "b.png"), ("a.png", tarfile.REGTYPE, "")]
    with logged("pixpro_d2.data") as messages:
        assert _contents(_write_tar(tmp_path / "a.tar", entries)) == [("a.png", b"1")]
    assert not messages


def test_names_of_one_hash_are_different_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_hash", len)
    path = _write_tar(tmp_path / "a.tar", [(name, tarfile.REGTYPE, "") for name in ("a", "b", "a", "cc")])
    assert _contents(path) == [("b", b"1"), ("a", b"2"), ("cc", b"3")]


@pytest.mark.parametrize("padding", [0, 3 << 20])
def test_several_tar_files_in_one(tmp_path, folder, padding):
    path = write_tar(tmp_path / "a.tar", folder)
    single, members = path.read_bytes(), _members(path)
    path.write_bytes(single + bytes(padding))
    with logged("pixpro_d2.data") as messages:
        assert _members(path) == members
    assert not messages
    path.write_bytes(single + bytes(padding) + single)
    with pytest.raises(UsageError, match=r"a\.tar continues behind its end mark at byte \d+, .* by a pattern"):
        _members(path)


def test_members_behind_a_single_block_of_zeros(tmp_path):
    path = _write_tar(tmp_path / "a.tar", [("a", tarfile.REGTYPE, "")])
    content = path.read_bytes()
    path.write_bytes(content[:1024] + bytes(512) + content)
    with pytest.raises(UsageError, match=r"continues behind its end mark at byte 1024, as several tar files"):
        _members(path)


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


def test_a_zip_file_that_another_one_replaced(tmp_path, folder):
    path = tmp_path / "a.zip"
    for content in (b"old", b"new"):
        (folder / "a.png").write_bytes(content)
        path.unlink(missing_ok=True)
        write_zip(path, folder, ["a.png"])
        assert [read_member(str(path), member) for member in _members(path)] == [content]
