"""The order of samples over epochs, processes and resumed runs."""

import itertools

import numpy as np
import pytest

from pixpro_d2.data.pretrain import sampler as order_of_samples
from pixpro_d2.data.pretrain.sampler import EpochBatchSampler, batches_per_epoch, shard_order
from pixpro_d2.utils.errors import UsageError


def _batches(count, size=23, batch_size=4, seed=1, start_iter=0, **process):
    sampler = EpochBatchSampler(size, batch_size, seed, **process)
    sampler.start_iter = start_iter
    return list(itertools.islice(sampler, count))


@pytest.mark.parametrize(("size", "batch_size"), [(23, 4), (24, 4), (5, 5), (7, 1), (9, 5)])
def test_each_index_once_per_epoch(size, batch_size):
    per_epoch = size // batch_size
    batches = _batches(4 * per_epoch, size, batch_size)
    for epoch in range(4):
        samples = sum(batches[epoch * per_epoch : (epoch + 1) * per_epoch], [])
        assert {e for e, _ in samples} == {epoch}
        indices = [index for _, index in samples]
        assert len(indices) == per_epoch * batch_size == len(set(indices))
        assert set(indices) <= set(range(size))
        assert all(type(index) is int for index in indices)


def test_every_index_gets_its_turn():
    # What one epoch drops, others show: the rest is not always the same.
    batches = _batches(5 * 20)
    assert {index for batch in batches for _, index in batch} == set(range(23))


def test_epochs_and_seeds_differ():
    orders = []
    for seed in (0, 1, 2):
        batches = _batches(12, size=24, batch_size=8, seed=seed)
        indices = [index for batch in batches for _, index in batch]
        orders += [tuple(indices[i : i + 24]) for i in range(0, 96, 24)]
    assert len(set(orders)) == 12
    assert all(sorted(order) == list(range(24)) != list(order) for order in orders)


def test_the_same_seed_gives_the_same_order():
    assert _batches(30) == _batches(30)
    assert _batches(30, seed=2**31 - 1) == _batches(30, seed=2**31 - 1)
    sampler = EpochBatchSampler(23, 4, seed=1)
    assert list(itertools.islice(sampler, 9)) == list(itertools.islice(sampler, 9)) == _batches(9)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("batch_size", [4, 12])
def test_processes_share_the_batches_of_one(world_size, batch_size):
    one = _batches(20, 50, batch_size)
    parts = [_batches(20, 50, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *pieces in zip(one, *parts):
        assert sum(pieces, []) == whole
        assert {len(piece) for piece in pieces} == {batch_size // world_size}


@pytest.mark.parametrize("start_iter", [0, 1, 3, 4, 5, 9, 10, 17, 38])
def test_a_resumed_run_continues_the_order(start_iter):
    # Five batches to the epoch, so these starts are in the middle, at the end and epochs later.
    whole = _batches(60)
    assert _batches(60 - start_iter, start_iter=start_iter) == whole[start_iter:]
    part = _batches(60 - start_iter, start_iter=start_iter, rank=1, world_size=2)
    assert part == [batch[2:] for batch in whole[start_iter:]]


def test_batches_per_epoch():
    assert batches_per_epoch(1281167, 1024) == 1251
    with pytest.raises(UsageError, match="3 images, less than one batch of 4: lower SOLVER.IMS_PER_BATCH"):
        batches_per_epoch(3, 4)


@pytest.mark.parametrize("window", [1, 4, 1000])
def test_shards_are_read_one_after_the_other(monkeypatch, window):
    monkeypatch.setattr(order_of_samples, "SHUFFLED_IMAGES", window)
    sizes, starts = [5, 0, 30, 1, 20], [0, 5, 5, 35, 36]
    for seed in range(20):
        order = shard_order(sizes, np.random.default_rng(seed)).tolist()
        assert sorted(order) == list(range(56))
        turns = np.random.default_rng(seed).permutation(5)
        in_turn = [starts[shard] + i for shard in turns for i in range(sizes[shard])]
        moves = [order.index(image) - place for place, image in enumerate(in_turn)]
        assert max(map(abs, moves)) < window
        assert window == 1 or any(moves)


def test_batches_of_shards_continue_as_those_of_a_folder():
    whole = _batches(12, size=23, shards=[10, 13])
    assert _batches(7, size=23, shards=[10, 13], start_iter=5) == whole[5:]
    parts = [_batches(12, size=23, shards=[10, 13], rank=rank, world_size=2) for rank in range(2)]
    assert [first + second for first, second in zip(*parts)] == whole
    assert len({index for batch in whole[:5] for _, index in batch}) == 20
