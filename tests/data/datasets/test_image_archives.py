"""``images:`` with zip and tar files: which members are images, the index, and every way to be wrong."""

import io
import os
import tarfile
import time
import zipfile

import numpy as np
import pytest
from archive_helpers import WRITERS, write_shards, write_zip
from data_helpers import logged, noise, write_images
from PIL import Image

from pixpro_d2.data.datasets import images
from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.data.datasets.image_index import MTIME_RESOLUTION_SECONDS
from pixpro_d2.data.io.reader import read_image
from pixpro_d2.utils.archives import split_member
from pixpro_d2.utils.errors import UsageError


def load(path):
    """Dataset dicts of the archive, and the line of the log about them."""
    name = f"images:{path}"
    ensure_registered([name])
    with logged("pixpro_d2.data") as messages:
        dicts = load_dicts(name)
    (line,) = [message for message in messages if "names" in message]
    return dicts, line


def _names(dicts):
    """Names of the members, without their places in tar files."""
    members = [split_member(record["file_name"]) for record in dicts]
    return [member.partition("/")[2] if path.lower().endswith(".tar") else member for path, member in members]


def _write(path, names, content):
    """Write an archive of members with exactly these names, all with the same content."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name), content)
        return
    with tarfile.open(path, "w") as archive:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))


@pytest.mark.parametrize("kind", WRITERS)
def test_images_are_found_as_in_a_folder(tmp_path, kind):
    content = ["./b c.png", "sub/deep er/a.PNG", "日本.png", "../up.png", "x/../y.png"]
    others = ["notes.txt", "._b c.png", ".hidden/c.png", "sub/.d.png", "__MACOSX/._b.png", "__MACOSX/sub/e.png", "png"]
    path = tmp_path / f"a b.{kind}"
    _write(path, [*content, *others, "/absolute.png"], write_images(tmp_path / "images", 1)[0].read_bytes())
    dicts, line = load(path)
    assert _names(dicts) == [*content, "/absolute.png"]
    assert f"Data set 'images:{path}': 6 names listed in" in line
    for i, record in enumerate(dicts):
        assert record["image_id"] == i
        np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), noise(0, 12, 16))


def test_an_absolute_name_in_an_archive_is_no_file_of_the_disk(tmp_path):
    (outside,) = write_images(tmp_path / "outside", 1)
    other = noise(7, 5, 5)
    Image.fromarray(other).save(tmp_path / "other.png")
    _write(tmp_path / "a.zip", [str(outside)], (tmp_path / "other.png").read_bytes())
    (record,), _ = load(tmp_path / "a.zip")
    np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), other)


@pytest.mark.parametrize("kind", WRITERS)
def test_no_image(tmp_path, kind):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "notes.txt").touch()
    path = WRITERS[kind](tmp_path / f"a.{kind}", tmp_path / "images")
    with pytest.raises(UsageError, match=rf"^No image file \(.*\) in .*/a\.{kind}\.$"):
        load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.zip", r"^There is no file .*/a\.zip: check the path"),
        ("a.tar.gz", r"/a\.tar\.gz is a compressed tar file, .* decompress it"),
        ("a.rar", r"there is no folder .*/a\.rar"),
    ],
)
def test_names_are_checked_at_once(tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        ensure_registered([f"images:{tmp_path}/{name}"])


def test_one_shard_of_many_is_damaged(tmp_path):
    write_images(tmp_path / "images", 24)
    pattern = write_shards(tmp_path / "shards", tmp_path / "images", 12)
    assert [name[-7:] for name in _names(load(pattern)[0])] == [f"{i:03d}.png" for i in range(24)]
    os.truncate(tmp_path / "shards" / "05.tar", 700)
    with pytest.raises(UsageError, match=r"/shards/05\.tar is .*cut off"):
        images.load_archives("name", pattern)


def test_a_forgotten_scheme(tmp_path):
    with pytest.raises(UsageError, match=r"not registered; did you mean images:.*/a\.zip\?"):
        ensure_registered([f"{tmp_path}/a.zip"])


def test_a_folder_may_be_named_like_an_archive(tmp_path):
    write_images(tmp_path / "a.zip", 2)
    dicts, _ = load(tmp_path / "a.zip")
    assert [record["file_name"] for record in dicts] == [f"{tmp_path}/a.zip/{i:03d}.png" for i in range(2)]


def _settle(*paths):
    before = time.time() - 2 * MTIME_RESOLUTION_SECONDS
    for path in paths:
        os.utime(path, (before, before))


@pytest.mark.parametrize("kind", [*WRITERS, "shards"])
def test_a_second_time_the_index_is_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(images, "MIN_INDEXED_IMAGES", 2)
    write_images(tmp_path / "images", 5)
    (tmp_path / "data").mkdir()
    if kind == "shards":
        path = write_shards(tmp_path / "data", tmp_path / "images", 2)
    else:
        path = str(WRITERS[kind](tmp_path / "data" / f"a.{kind}", tmp_path / "images"))
    archives = sorted((tmp_path / "data").iterdir())
    _settle(*archives)
    listed = images.load_archives("name", path)
    assert len(listed) == 5
    (index,) = set((tmp_path / "data").iterdir()) - set(archives)
    assert index.name == f".{os.path.basename(path)}.pixpro_images.npz"
    again, line = load(path)
    assert list(again) == list(listed) and "5 names read from its index" in line
    os.utime(archives[-1])
    with logged("pixpro_d2.data") as messages:
        assert list(images.load_archives("name", path)) == list(listed)
    assert "5 names listed" in messages[-1] and any("not kept yet" in message for message in messages)


def test_another_archive_of_the_same_time_needs_another_index(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MIN_INDEXED_IMAGES", 2)
    write_images(tmp_path / "images", 5)
    path = tmp_path / "a.zip"
    for names in (["000.png", "001.png"], ["002.png", "003.png", "004.png"]):
        write_zip(path, tmp_path / "images", names)
        os.utime(path, (1e9, 1e9))  # as a copy that keeps the time of its original
        for source in ("listed", "read from its index"):
            dicts, line = load(path)
            assert _names(dicts) == names and source in line


def test_links_and_versions_of_a_tar_file(tmp_path):
    write_images(tmp_path / "images", 3)
    content = (tmp_path / "images" / "002.png").read_bytes()
    os.link(tmp_path / "images" / "000.png", tmp_path / "images" / "linked.png")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("000.png", "001.png", "linked.png"):
            archive.add(tmp_path / "images" / name, name)
        header = tarfile.TarInfo("000.png")
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    dicts, _ = load(path)
    assert _names(dicts) == ["001.png", "linked.png", "000.png"]
    for record, seed in zip(dicts, (1, 0, 2)):
        np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), noise(seed, 12, 16))


def test_an_archive_in_the_current_folder(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 2)
    write_zip(tmp_path / "a.zip", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "MIN_INDEXED_IMAGES", 2)
    _settle("a.zip")
    for source in ("listed", "read from its index"):
        with logged("pixpro_d2.data") as messages:
            dicts = images.load_archives("name", "a.zip")
        assert [record["file_name"] for record in dicts] == ["a.zip@/000.png", "a.zip@/001.png"]
        assert source in messages[-1]
