"""The pre-training loader: reproducible batches, damaged files, every way to have no data."""

import itertools
import json
import multiprocessing
import os
import signal
import threading
import time
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from data_helpers import first_batches, logged, make_cfg, noise, take, unreadable_of_an_epoch, write_images
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from distributed_helpers import in_processes
from PIL import Image

from pixpro_d2.data.io.file_list import FileList, JoinedLists
from pixpro_d2.data.pretrain.loader import MAX_REPLACEMENTS, build_view_loader
from pixpro_d2.data.pretrain.samples import load_images
from pixpro_d2.utils.archives import join_member
from pixpro_d2.utils.errors import UsageError

LOGGER = "pixpro_d2.data"


def _cfg(folder, **keys):
    return make_cfg(f"images:{folder}", **keys)


def _damage(path, kind):
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.write_bytes(b"This is no picture." if kind == "text" else b"")


def _assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        assert batch["file_names"] == other["file_names"]
        for key in ("views", "boxes", "image_sizes"):
            assert torch.equal(batch[key], other[key]), key


def test_batches(tmp_path):
    paths = write_images(tmp_path / "images", 10, size=(12, 16))
    batches = take(build_view_loader(_cfg(tmp_path / "images")), 4)
    for batch in batches:
        assert set(batch) == {"views", "boxes", "image_sizes", "file_names"}
        assert batch["views"].shape == (4, 2, 3, 8, 8) and batch["views"].dtype == torch.uint8
        assert batch["boxes"].shape == (4, 2, 4) and batch["boxes"].dtype == torch.float32
        assert batch["image_sizes"].tolist() == [[12, 16]] * 4
        assert batch["image_sizes"].dtype == torch.float32
        assert set(batch["file_names"]) <= {str(path) for path in paths}
    for epoch in (batches[:2], batches[2:]):
        assert len({name for batch in epoch for name in batch["file_names"]}) == 8


def test_workers_do_not_change_the_batches(tmp_path):
    paths = write_images(tmp_path / "images", 9)
    _damage(paths[4], "text")
    keys = {"DATALOADER__MAX_UNREADABLE": 0.5}
    alone = take(build_view_loader(_cfg(tmp_path / "images", **keys)), 7)
    torch.manual_seed(1234)  # the global state is not part of it
    np.random.seed(1234)
    helped = take(build_view_loader(_cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=2, **keys)), 7)
    _assert_equal(alone, helped)


def test_epochs_and_seeds_show_an_image_in_new_views(tmp_path):
    write_images(tmp_path / "images", 4)
    batches = take(build_view_loader(_cfg(tmp_path / "images")), 2)
    batches += take(build_view_loader(_cfg(tmp_path / "images", SEED=4)), 1)
    boxes = [dict(zip(batch["file_names"], batch["boxes"])) for batch in batches]
    for first, second in itertools.combinations(boxes, 2):
        assert first.keys() == second.keys()
        assert not any(torch.equal(first[name], second[name]) for name in first)
    assert len({tuple(batch["file_names"]) for batch in batches}) == 3  # in another order, too


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_continues(tmp_path, workers):
    write_images(tmp_path / "images", 9)
    cfg = _cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=workers)
    whole = take(build_view_loader(cfg), 8)
    resumed = build_view_loader(cfg)
    resumed.start_at(5)
    _assert_equal(take(resumed, 3), whole[5:])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_skipped_and_counted_once(tmp_path, workers):
    paths = write_images(tmp_path / "images", 24)
    damaged = [paths[3], paths[10], paths[11], paths[23]]
    for path, kind in zip(damaged, ("text", "empty", "truncated", "text")):
        _damage(path, kind)
    cfg = _cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=workers, DATALOADER__MAX_UNREADABLE=4 / 24)
    loader = build_view_loader(cfg)
    with logged(LOGGER) as messages:
        batches = take(loader, 5 * 6)  # five epochs
    assert loader.unreadable == {str(path) for path in damaged}
    warnings = [message for message in messages if "unreadable" in message]
    assert len(warnings) == 4
    for i, warning in enumerate(warnings, start=1):
        assert f"({i} so far)" in warning
    for path in damaged:
        assert sum(str(path) in warning for warning in warnings) == 1
    stand_ins = []
    for epoch in range(5):
        names = [name for batch in batches[6 * epoch : 6 * epoch + 6] for name in batch["file_names"]]
        # Readable images stand in, others in each epoch.
        readable = {str(path) for path in paths} - {str(path) for path in damaged}
        assert len(names) == 24 and set(names) == readable
        stand_ins.append(sorted(Counter(names) - Counter(readable)))
    assert len(set(map(tuple, stand_ins))) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_unreadable_files(tmp_path, workers):
    paths = write_images(tmp_path / "images", 20)
    for path in paths[::4]:
        _damage(path, "text")
    cfg = _cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=workers, DATALOADER__MAX_UNREADABLE=0.2)
    with logged(LOGGER) as messages, pytest.raises(UsageError) as caught:
        take(build_view_loader(cfg), 5)
    text = str(caught.value)
    assert "5 of 20" in text and "DATALOADER.MAX_UNREADABLE 0.2" in text and "\n" not in text
    last = [message for message in messages if "unreadable" in message][-1]
    assert [str(path) for path in paths[::4] if str(path) in text and str(path) in last]


def test_processes_count_unreadable_files_together(tmp_path):
    """5 of 20 are too many, of which each of two processes sees but a part."""
    paths = write_images(tmp_path / "images", 20)
    for path in paths[::4]:
        _damage(path, "text")
    cfg = _cfg(tmp_path / "images", DATALOADER__MAX_UNREADABLE=0.2)
    results = in_processes(tmp_path / "processes", unreadable_of_an_epoch, cfg)
    seen = [alone for alone, _ in results]
    assert all(0 < alone < 5 for alone in seen) and sum(seen) == 5
    for _, message in results:
        assert message.startswith("5 of 20 images are unreadable, more than the share DATALOADER.MAX_UNREADABLE 0.2")


def test_the_share_itself_is_allowed(tmp_path):
    paths = write_images(tmp_path / "images", 20)
    for path in paths[::4]:
        _damage(path, "text")
    loader = build_view_loader(_cfg(tmp_path / "images", DATALOADER__MAX_UNREADABLE=0.25))
    assert len(take(loader, 5)) == 5
    assert len(loader.unreadable) == 5


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("max_unreadable", "message"),
    [(0.05, r"^1 of 6 images.*DATALOADER\.MAX_UNREADABLE"), (1.0, "^6 images in a row are unreadable")],
)
def test_nothing_but_unreadable_files(tmp_path, workers, max_unreadable, message):
    paths = write_images(tmp_path / "images", 6)
    for path in paths:
        _damage(path, "text")
    keys = {"DATALOADER__NUM_WORKERS": workers, "DATALOADER__MAX_UNREADABLE": max_unreadable}
    cfg = _cfg(tmp_path / "images", **keys)
    with pytest.raises(UsageError, match=message) as caught:
        take(build_view_loader(cfg), 1)
    text = str(caught.value)
    assert any(str(path) in text for path in paths)
    assert "\n" not in text and "Traceback" not in text  # one sentence, from a worker too


def test_a_long_run_of_unreadable_files(tmp_path):
    paths = write_images(tmp_path / "images", MAX_REPLACEMENTS + 8)
    for path in paths[: MAX_REPLACEMENTS - 1]:
        _damage(path, "empty")
    keys = {"DATALOADER__MAX_UNREADABLE": 1.0}
    assert len(take(build_view_loader(_cfg(tmp_path / "images", **keys)), 7)) == 7
    for path in paths[MAX_REPLACEMENTS - 1 : -1]:
        _damage(path, "empty")
    with pytest.raises(UsageError, match=f"^{MAX_REPLACEMENTS} images in a row"):
        take(build_view_loader(_cfg(tmp_path / "images", **keys)), 7)


def test_damaged_neighbours_are_few_among_many(tmp_path):
    """40 files in a row, as a copy that was interrupted leaves them; each is replaced in the first epoch."""
    paths = write_images(tmp_path / "images", 160)
    for path in paths[60:100]:
        _damage(path, "empty")
    loader = build_view_loader(_cfg(tmp_path / "images", DATALOADER__MAX_UNREADABLE=0.25))
    assert len(take(loader, 40)) == 40 and loader.unreadable == set(map(str, paths[60:100]))


@pytest.mark.parametrize(
    ("train", "message"),
    [((), "DATASETS.TRAIN is empty"), (("images:{}",), "No image file"), (("nowhere:{}",), "not registered")],
)
def test_no_images(tmp_path, train, message):
    with pytest.raises(UsageError, match=message):
        build_view_loader(make_cfg(*(name.format(tmp_path) for name in train)))


def test_a_registered_data_set_without_images(tmp_path):
    name = f"nothing {tmp_path}"
    DatasetCatalog.register(name, list)
    with pytest.raises(UsageError, match="nothing .* has no images"):
        build_view_loader(make_cfg(name))


def test_fewer_images_than_a_batch(tmp_path):
    write_images(tmp_path / "images", 3)
    with pytest.raises(UsageError, match=r"3 images.*batch of 4.*SOLVER\.IMS_PER_BATCH"):
        build_view_loader(_cfg(tmp_path / "images"))
    assert len(take(build_view_loader(_cfg(tmp_path / "images", SOLVER__IMS_PER_BATCH=3)), 2)) == 2


def test_any_registered_data_set_works(tmp_path):
    paths = write_images(tmp_path / "images", 4)
    bare, coco = f"bare {tmp_path}", f"coco {tmp_path}"
    DatasetCatalog.register(bare, lambda: [{"file_name": str(path)} for path in paths[:2]])
    images = [{"id": i, "file_name": path.name, "height": 12, "width": 16} for i, path in enumerate(paths)]
    content = {"images": images[2:], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    register_coco_instances(coco, {}, str(tmp_path / "coco.json"), str(tmp_path / "images"))
    by_path = f"coco:{tmp_path / 'coco.json'}@{tmp_path / 'images'}"
    cfg = make_cfg(bare, coco, by_path, SOLVER__IMS_PER_BATCH=6)
    (batch,) = take(build_view_loader(cfg), 1)
    assert sorted(batch["file_names"]) == sorted(map(str, [*paths, *paths[2:]]))


def test_names_do_not_share_the_cache(tmp_path):
    names = []
    for i, count in enumerate((4, 6)):
        write_images(tmp_path / f"images{i}", count)
        names.append(f"images:{tmp_path / f'images{i}'}")
    for train, count in [(names[:1], 4), (names[1:], 6), (names, 10), (names[::-1], 10), (names[:1], 4)]:
        images = load_images(tuple(train))
        assert len(images) == count
        folders = [name.removeprefix("images:") for name in train]
        assert [image["file_name"].rsplit("/", 1)[0] for image in images] == [
            folder for folder in folders for _ in range(4 if folder.endswith("0") else 6)
        ]


def test_the_images_are_listed_once(tmp_path):
    name, calls = f"counted {tmp_path}", []
    write_images(tmp_path / "images", 4)

    def load():
        calls.append(name)
        return [{"file_name": str(path)} for path in sorted((tmp_path / "images").iterdir())]

    DatasetCatalog.register(name, load)
    assert len(load_images((name,))) == 4
    take(build_view_loader(make_cfg(name)), 1)
    assert calls == [name]


def test_images_of_different_kinds_make_one_batch(tmp_path):
    write_images(tmp_path / "images", 2)
    Image.fromarray(noise(5, 40, 9, 0)).save(tmp_path / "images" / "grey.png")
    Image.fromarray(noise(6, 9, 40)).convert("CMYK").save(tmp_path / "images" / "cmyk.jpg")
    (batch,) = take(build_view_loader(_cfg(tmp_path / "images")), 1)
    assert batch["views"].shape == (4, 2, 3, 8, 8)
    sizes = dict(zip((name.rsplit("/", 1)[1] for name in batch["file_names"]), batch["image_sizes"].tolist()))
    for box, (height, width) in zip(batch["boxes"], batch["image_sizes"]):
        assert box[:, [0, 2]].max() <= width and box[:, [1, 3]].max() <= height
    assert sizes == {"000.png": [12, 16], "001.png": [12, 16], "grey.png": [40, 9], "cmyk.jpg": [9, 40]}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_a_mount_that_vanishes_for_a_while_changes_nothing(tmp_path, workers, mount_point_stays):
    write_images(tmp_path / "images", 9)
    cfg = _cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=workers, DATALOADER__RETRY_SECONDS=20.0)
    expected = take(build_view_loader(cfg), 12)
    loader = build_view_loader(cfg)
    batches = iter(loader)
    found = [next(batches)]
    (tmp_path / "images").rename(tmp_path / "away")
    if mount_point_stays:
        (tmp_path / "images").mkdir()
    timer = threading.Timer(1.2, lambda: (tmp_path / "away").rename(tmp_path / "images"))
    timer.start()
    begin = time.monotonic()
    found += itertools.islice(batches, 11)
    assert 1 < time.monotonic() - begin < 10
    timer.join()
    batches.close()
    _assert_equal(found, expected)
    assert not loader.unreadable


def test_a_worker_that_is_killed_ends_the_run_with_the_remedy(tmp_path):
    write_images(tmp_path / "images", 9)
    batches = iter(build_view_loader(_cfg(tmp_path / "images", DATALOADER__NUM_WORKERS=2)))
    next(batches)
    worker = multiprocessing.active_children()[0]
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UsageError, match=r"lower DATALOADER\.NUM_WORKERS, or give the job more memory"):
        list(itertools.islice(batches, 100))


def test_names_that_are_not_ascii(tmp_path):
    folder = tmp_path / "фото 写真 é"
    write_images(folder / "ünter", 4)
    (folder / "ünter" / "000.png").rename(folder / "日本.png")
    os.rename(folder / "ünter" / "001.png", os.fsencode(folder) + b"/latin-\xe4.png")  # no UTF-8
    (folder / "ünter" / "002.png").write_bytes(b"This is no picture.")
    cfg = _cfg(folder, DATALOADER__NUM_WORKERS=1, DATALOADER__MAX_UNREADABLE=0.5)
    with logged(LOGGER) as messages:
        (batch,) = take(build_view_loader(cfg), 1)
    names = sorted(os.path.basename(os.fsencode(name)) for name in batch["file_names"])
    assert set(names) == {"日本.png".encode(), b"latin-\xe4.png", b"003.png"}
    assert sum("ünter/002.png" in message for message in messages) == 1


def test_bad_members_of_a_zip_file_are_skipped(tmp_path):
    paths, archive, name = write_images(tmp_path / "images", 8), str(tmp_path / "ä.zip"), f"zip {tmp_path}"
    with zipfile.ZipFile(archive, "w") as file:
        for path in paths:
            file.write(path, f"ö/{path.name}")
        place = file.getinfo("ö/003.png").header_offset + 100
    with open(archive, "rb+") as file:
        file.seek(place)
        file.write(b"damaged")
    DatasetCatalog.register(name, lambda: [{"file_name": join_member(archive, f"ö/{path.name}")} for path in paths])
    loader = build_view_loader(make_cfg(name, DATALOADER__NUM_WORKERS=1, DATALOADER__MAX_UNREADABLE=0.2))
    batches = take(loader, 2)
    assert loader.unreadable == {join_member(archive, "ö/003.png")}
    stems = sorted(file_name[-7:-4] for batch in batches for file_name in batch["file_names"])
    assert stems == ["000", "001", "002", "004", "004", "005", "006", "007"]


def test_folders_are_listed_compactly_and_joined_without_a_copy(tmp_path):
    for name, count in (("a", 3), ("b", 2)):
        write_images(tmp_path / name, count)
    DatasetCatalog.register(f"bare {tmp_path}", lambda: [{"file_name": str(tmp_path / "a" / "000.png")}])
    names = (f"images:{tmp_path / 'a'}", f"bare {tmp_path}", f"images:{tmp_path / 'b'}")
    images = load_images(names)
    assert isinstance(images, JoinedLists) and [type(part) for part in images.datasets] == [FileList, list, FileList]
    cfg = make_cfg(*names, SOLVER__IMS_PER_BATCH=6)
    loader = build_view_loader(cfg)
    assert loader.loader.dataset.images.datasets[0] is load_images(names).datasets[0]
    (batch,) = take(loader, 1)
    listed = ["a/000.png", "a/000.png", "a/001.png", "a/002.png", "b/000.png", "b/001.png"]
    assert sorted(batch["file_names"]) == [str(tmp_path / name) for name in listed]


def test_two_processes_share_each_batch(tmp_path):
    # Real processes of one group; with SEED -1 they have to agree on a seed.
    write_images(tmp_path / "images", 9)
    cfgs = [_cfg(tmp_path / "images", SEED=seed) for seed in (3, -1)]
    runs = list(zip(*in_processes(tmp_path / "two", first_batches, cfgs, 5)))
    joined = []
    for first, second in runs:
        assert [len(batch["file_names"]) for batch in (*first, *second)] == [2] * 10
        names = [batch["file_names"] + other["file_names"] for batch, other in zip(first, second)]
        for epoch in (names[:2], names[2:4]):
            assert len({name for batch in epoch for name in batch}) == 8
        joined.append(names)
    assert joined[0] != joined[1]
    alone = take(build_view_loader(cfgs[0]), 5)
    assert joined[0] == [batch["file_names"] for batch in alone]
    for batch, *parts in zip(alone, *runs[0]):
        assert torch.equal(batch["views"], torch.cat([part["views"] for part in parts]))
        assert torch.equal(batch["boxes"], torch.cat([part["boxes"] for part in parts]))
