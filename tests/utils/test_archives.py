"""Names of archives, of sets of archives, and of their members."""

import pytest

from pixpro_d2.utils.archives import archive_files, expand_braces, folder_of, is_archive, split_member, title_of
from pixpro_d2.utils.errors import UsageError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("s/{08..11}.tar", ["s/08.tar", "s/09.tar", "s/10.tar", "s/11.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{0..010}", [f"{i:03d}" for i in range(11)]),
        ("{a,bc,}.zip", ["a.zip", "bc.zip", ".zip"]),
        ("{a,b}/{1..2}.tar", ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]),
        ("{a}{1..2}{}", ["{a}1{}", "{a}2{}"]),
        ("{3..1}", ["{3..1}"]),
    ],
)
def test_braces(pattern, expected):
    assert expand_braces(pattern) == expected


def test_archives_are_known_by_their_endings(tmp_path):
    (tmp_path / "folder.zip").mkdir()
    for name in ("a.zip", "b c.TAR", "a.tar.gz", "a.tgz", "{0..1}.tar", "{a.zip,b.tar}"):
        assert is_archive(name)
    for name in ("a", "zip", "a.gz", "{a.zip,b.jpg}", "", str(tmp_path / "folder.zip")):
        assert not is_archive(name)


def test_files_of_a_pattern(tmp_path):
    for name in ("0.tar", "2.tar", "{0..2}.tar"):
        (tmp_path / name).touch()
    assert archive_files(f"{tmp_path}/{{0..2}}.tar") == [f"{tmp_path}/{{0..2}}.tar"]  # the file of this very name
    (tmp_path / "{0..2}.tar").unlink()
    with pytest.raises(UsageError, match=r"^1 of 3 files of .*\{0\.\.2\}\.tar are missing, the first is .*/1\.tar: "):
        archive_files(f"{tmp_path}/{{0..2}}.tar")
    (tmp_path / "1.tar").touch()
    assert archive_files(f"{tmp_path}/{{0..2}}.tar") == [f"{tmp_path}/{i}.tar" for i in range(3)]
    with pytest.raises(UsageError, match=r"^There is no file .*/\{3\.\.4\}\.tar: "):
        archive_files(f"{tmp_path}/{{3..4}}.tar")
    with pytest.raises(UsageError, match=r"^.*/a\.tar\.xz is a compressed tar file, .* decompress it"):
        archive_files(f"{tmp_path}/a.tar.xz")


def test_titles_and_folders():
    assert [folder_of(path) for path in ("a/b.zip", "b.zip", "a/{1..2}.tar", "a/s{1..2}/{3..4}.tar")] == [
        "a",
        "",
        "a",
        "a",
    ]
    assert [title_of(path) for path in ("a/my photos.zip", "a/{1..2}.tar", "b/s{1..2}.tar")] == ["my photos", "a", "b"]


def test_members():
    assert split_member("/a b/c.zip@/d/e.jpg") == ("/a b/c.zip", "d/e.jpg")
    assert split_member("c.TAR@/1+2/d@/e.jpg") == ("c.TAR", "1+2/d@/e.jpg")
    assert split_member("c.zip@//root.jpg") == ("c.zip", "/root.jpg")
    assert split_member("c.zip/d.jpg") is split_member("c@/d.jpg") is split_member("c.zip@/") is None
