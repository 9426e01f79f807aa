"""The index of a folder of images: when it holds, when it is made again, and that it is never believed blindly."""

import os
import pickle
import time
from collections import Counter

import numpy as np
import pytest
from data_helpers import logged

from pixpro_d2.data.datasets import images
from pixpro_d2.data.datasets.image_index import MTIME_RESOLUTION_SECONDS, index_file, read_index
from pixpro_d2.data.datasets.images import list_images, load_image_folder
from pixpro_d2.utils.errors import UsageError

LOGGER = "pixpro_d2.data"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of five files, settled long ago, worth an index."""
    monkeypatch.setattr(images, "MIN_INDEXED_IMAGES", 2)
    root = tmp_path / "data" / "images ä"
    for name in ("b.png", "a.jpg", "sub/日本.png", "sub/deeper/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.png").touch()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    _settle(root, tmp_path / "elsewhere")
    return root


def _settle(*roots):
    for root in roots:
        for path, _, _ in os.walk(root):
            before = time.time() - 2 * MTIME_RESOLUTION_SECONDS
            os.utime(path, (before, before))


def _load(root):
    """Names below ``root``, and how they were found."""
    with logged(LOGGER) as messages:
        files = load_image_folder("name", str(root))
    assert list(files) == [{"file_name": path, "image_id": i} for i, path in enumerate(list_images(str(root)))]
    (line,) = [message for message in messages if "Data set 'name'" in message]
    return [os.path.relpath(item["file_name"], root) for item in files], line, messages


NAMES = ["a.jpg", "b.png", "link/y.png", "sub/日本.png", "sub/deeper/x.png"]


def test_a_second_time_the_index_is_read(folder):
    names, line, _ = _load(folder)
    assert names == NAMES and "5 names listed in" in line and " s, " in line and " MB" in line
    assert set(os.listdir(folder.parent)) == {folder.name, ".images ä.pixpro_images.npz"}
    names, line, _ = _load(folder)
    assert names == NAMES and "5 names read from its index in" in line
    names, line, _ = _load(str(folder) + "/")
    assert names == NAMES and "read from its index" in line


def test_photographs_that_are_not_read_are_told_each_time(folder):
    (folder / "c.HEIC").touch()
    _settle(folder)
    told = f"Skipped 1 files below {folder} that are not read (.heic): convert them to JPEG or PNG."
    for source in ("listed", "read from its index"):
        names, line, messages = _load(folder)
        assert names == NAMES and source in line and messages.count(told) == 1


def _add(folder):
    (folder / "sub" / "new.png").touch()


def _remove(folder):
    (folder / "sub" / "deeper" / "x.png").unlink()


def _add_folder(folder):
    (folder / "sub" / "more").mkdir()


def _remove_folder(folder):
    (folder / "sub" / "deeper" / "x.png").rename(folder / "c.png")
    (folder / "sub" / "deeper").rmdir()


def _change_what_is_linked(folder):
    (folder / "link" / "z.png").touch()


def _link_elsewhere(folder):
    (folder / "link").unlink()
    (folder / "link").symlink_to(folder / "sub")


@pytest.mark.parametrize(
    "change", [_add, _remove, _add_folder, _remove_folder, _change_what_is_linked, _link_elsewhere]
)
def test_a_change_of_any_folder_is_seen(folder, change):
    _load(folder)
    assert read_index(index_file(str(folder)), str(folder)) is not None
    change(folder)
    assert read_index(index_file(str(folder)), str(folder)) is None
    names, line, messages = _load(folder)
    assert "listed in" in line and "not kept yet" in " ".join(messages)  # it has changed only now
    _settle(folder, folder / "link")
    assert _load(folder)[0] == names
    assert _load(folder)[:1] == (names,) and "read from its index" in _load(folder)[1]


def test_a_list_without_a_folder_is_not_kept(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):  # root may list every folder
        if path == str(folder / "sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        names, line, messages = _load(folder)
    assert names == ["a.jpg", "b.png", "link/y.png"] and "3 names listed in" in line
    assert any(message.startswith(f"Skipped the folder {folder}/sub: no permission") for message in messages)
    assert any("is not kept, because a folder was skipped" in message for message in messages)
    assert not os.path.exists(index_file(str(folder)))
    assert _load(folder)[0] == NAMES  # as another user, who may list it
    assert "5 names read from its index" in _load(folder)[1]


def test_the_size_of_a_folder_does_not_count(folder, monkeypatch):
    _load(folder)
    real_stat = os.stat

    def stat_elsewhere(path, **options):  # the file system of a copy counts folders in other units
        found = real_stat(path, **options)
        return os.stat_result((*found[:6], found.st_size + 1, *found[7:]), {"st_mtime_ns": found.st_mtime_ns})

    monkeypatch.setattr(os, "stat", stat_elsewhere)
    assert read_index(index_file(str(folder)), str(folder)) is not None


def test_few_images_need_no_index(folder, monkeypatch):
    monkeypatch.setattr(images, "MIN_INDEXED_IMAGES", 6)
    _load(folder)
    assert not os.path.exists(index_file(str(folder)))


def _cut(path):
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])


def _flip(path):
    with open(path, "rb+") as file:
        content = file.read()
        place = content.index(b"a.jpg")
        file.seek(place)
        file.write(b"A")


def _empty(path):
    open(path, "wb").close()


def _altered(**changes):
    def alter(path):
        with np.load(path) as arrays:
            content = dict(arrays)
        content.update({key: change(content[key]) for key, change in changes.items()})
        np.savez(path, **content)

    return alter


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        _empty,
        _altered(ends=lambda ends: ends[[1, 0, 2, 3, 4]]),
        _altered(ends=lambda ends: ends + 1),
        _altered(ends=lambda ends: ends.astype(np.float64)),
        _altered(names=lambda names: names[:-1]),
        _altered(folder_ends=lambda ends: -ends),
        _altered(names=lambda names: np.array([Trap()])),
    ],
    ids=["cut", "a flipped byte", "empty", "order", "too far", "type", "short", "folders", "pickle"],
)
def test_a_damaged_index_is_made_anew(folder, damage):
    _load(folder)
    damage(index_file(str(folder)))
    names, line, messages = _load(folder)
    assert names == NAMES and "listed in" in line
    assert any("is damaged and made again" in message for message in messages)
    assert "read from its index" in _load(folder)[1]


class Trap:
    """Ends the test run when it is unpickled."""

    def __reduce__(self):
        return os._exit, (99,)


def test_an_index_of_another_version_is_made_anew(folder):
    _load(folder)
    _altered(version=lambda version: version + 1)(index_file(str(folder)))
    assert "listed in" in _load(folder)[1] and "read from its index" in _load(folder)[1]


def test_where_nobody_writes_nothing_is_kept(folder):
    os.mkdir(index_file(str(folder)))  # a folder cannot be replaced by a file; root may write to read-only ones
    for _ in range(2):
        names, line, messages = _load(folder)
        assert names == NAMES and "listed in" in line
        assert any("is not kept:" in message for message in messages)


def test_the_index_moves_with_the_folder(folder, tmp_path):
    _load(folder)
    folder.parent.rename(tmp_path / "moved")
    names, line, _ = _load(tmp_path / "moved" / folder.name)
    assert names == NAMES and "read from its index" in line


def test_a_folder_that_goes_away_meanwhile_is_an_error(folder):
    walk = images._walk(str(folder), Counter())
    assert next(walk) == ("", ["a.jpg", "b.png"])
    (folder / "sub").rename(folder.parent / "sub")
    with pytest.raises(UsageError, match="folder .*images ä/sub cannot be listed: No such file"):
        list(walk)
    folder.rename(folder.parent / "gone")
    with pytest.raises(UsageError, match="No image file .*images ä"):
        list_images(str(folder))


def test_pickled_indices_are_not_loaded(folder):
    with open(index_file(str(folder)), "wb") as file:
        pickle.dump(Trap(), file)
    assert read_index(index_file(str(folder)), str(folder)) is None
