"""The pre-training loader on archives: the batches of the folder, exact resume, damaged members, all workers."""

import threading

import pytest
import torch
from archive_helpers import WRITERS, write_shards
from data_helpers import make_cfg, take, write_images
from forked import forkserver

from pixpro_d2.data.pretrain import sampler
from pixpro_d2.data.pretrain.loader import build_view_loader
from pixpro_d2.utils.archives import split_member

KINDS = [*WRITERS, "shards"]


def pack(tmp_path, kind):
    """Put the files of the folder ``images`` into archives; return the name of the data set."""
    if kind == "shards":
        return f"images:{write_shards(tmp_path / 'shards', tmp_path / 'images', 3)}"
    return f"images:{WRITERS[kind](tmp_path / f'a.{kind}', tmp_path / 'images')}"


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        for key in ("views", "boxes", "image_sizes"):
            assert torch.equal(batch[key], other[key]), key


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_batches_are_those_of_the_folder(tmp_path, kind, workers):
    write_images(tmp_path / "images", 9)
    expected = take(build_view_loader(make_cfg(f"images:{tmp_path / 'images'}")), 5)
    assert_equal(take(build_view_loader(make_cfg(pack(tmp_path, kind), DATALOADER__NUM_WORKERS=workers)), 5), expected)


def test_workers_that_are_not_forked(tmp_path):
    write_images(tmp_path / "images", 9)
    cfg = make_cfg(*(pack(tmp_path, kind) for kind in KINDS))
    expected = take(build_view_loader(cfg), 6)
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_view_loader(cfg)
    loader.loader.multiprocessing_context = forkserver()
    assert_equal(take(loader, 6), expected)


def test_shards_are_read_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler, "SHUFFLED_IMAGES", 1)
    write_images(tmp_path / "images", 12)
    batches = take(build_view_loader(make_cfg(pack(tmp_path, "shards"))), 5 * 3)
    turns = [
        [{split_member(name)[0][-6:] for name in batch["file_names"]} for batch in batches[i::3]] for i in range(3)
    ]
    assert all(len(shards) == 1 for turn in turns for shards in turn)  # as many images as a batch
    epochs = [tuple(shard for (shard,) in epoch) for epoch in zip(*turns)]
    assert all(sorted(epoch) == ["00.tar", "01.tar", "02.tar"] for epoch in epochs) and len(set(epochs)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_continues(tmp_path, kind):
    write_images(tmp_path / "images", 9)
    cfg = make_cfg(pack(tmp_path, kind), DATALOADER__NUM_WORKERS=2)
    whole = take(build_view_loader(cfg), 8)
    cfg.DATALOADER.NUM_WORKERS = 0
    resumed = build_view_loader(cfg)
    resumed.start_at(5)
    assert_equal(take(resumed, 3), whole[5:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_members_are_skipped_and_counted_once(tmp_path, kind, workers):
    paths = write_images(tmp_path / "images", 12)
    paths[3].write_bytes(b"This is no picture.")
    paths[7].write_bytes(paths[7].read_bytes()[:200])
    keys = {"DATALOADER__NUM_WORKERS": workers, "DATALOADER__MAX_UNREADABLE": 2 / 12}
    loader = build_view_loader(make_cfg(pack(tmp_path, kind), **keys))
    batches = take(loader, 3 * 3)
    assert sorted(name[-7:] for name in loader.unreadable) == ["003.png", "007.png"]
    for epoch in range(3):
        shown = [name[-7:-4] for batch in batches[3 * epoch : 3 * epoch + 3] for name in batch["file_names"]]
        assert len(shown) == 12 and set(shown) == {f"{i:03d}" for i in range(12)} - {"003", "007"}


def test_a_mount_that_vanishes_for_a_while_changes_nothing(tmp_path):
    write_images(tmp_path / "images", 9)
    cfg = make_cfg(pack(tmp_path, "shards"), DATALOADER__RETRY_SECONDS=20.0)
    expected = take(build_view_loader(cfg), 6)
    loader = build_view_loader(cfg)
    (tmp_path / "shards").rename(tmp_path / "away")
    timer = threading.Timer(0.3, lambda: (tmp_path / "away").rename(tmp_path / "shards"))
    timer.start()
    assert_equal(take(loader, 6), expected)
    timer.join()
    assert not loader.unreadable


def test_archives_and_folders_are_joined(tmp_path):
    write_images(tmp_path / "images", 4)
    names = [f"images:{tmp_path / 'images'}", *(pack(tmp_path, kind) for kind in KINDS)]
    (batch,) = take(build_view_loader(make_cfg(*names, SOLVER__IMS_PER_BATCH=16)), 1)
    assert sorted(name[-7:] for name in batch["file_names"]) == sorted(4 * [f"{i:03d}.png" for i in range(4)])
