"""The stream of training samples: detectron2's order, the same for any processes, workers and restarts."""

import errno
import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch
from data_helpers import take
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from distributed_helpers import in_processes
from rendering import render_once
from stream_helpers import assert_equal_batches, first_samples, image_ids, plain, stream_cfg, write_boxes

from pixpro_d2.data.downstream.build import build_train_loader
from pixpro_d2.data.downstream.train_stream import MAX_SUBSTITUTES, StreamBatchSampler, StreamDataset
from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.utils.errors import UsageError

SIZE = 23
WIDE = bytes(i % 3 == 0 for i in range(SIZE))
SAMPLERS = {
    "all": lambda: TrainingSampler(SIZE, seed=5),
    "subset": lambda: RandomSubsetTrainingSampler(SIZE, 0.5, seed_shuffle=5, seed_subset=5),
    "repeated": lambda: RepeatFactorTrainingSampler(torch.linspace(0.5, 3, SIZE), seed=5),
}


def batches(count, sampler="all", groups=WIDE, batch_size=4, start_iter=0, **process):
    stream = StreamBatchSampler(SAMPLERS[sampler](), groups, batch_size, **process)
    stream.start_iter = start_iter
    return list(itertools.islice(stream, count))


def indices(found):
    return [[index for _, index in batch] for batch in found]


def test_a_batch_is_given_when_a_group_fills_it():
    stream = StreamBatchSampler(TrainingSampler(5, shuffle=False, seed=0), bytes([1, 0, 0, 1, 0]), 2)
    # 0 1 2 3 4 0 1 2 3 4, where 0 and 3 are of one group: 1 2 are complete first, then 0 3; 4 waits for 1.
    expected = [[(0, 1), (1, 2)], [(2, 0), (3, 3)], [(4, 4), (5, 1)], [(6, 0), (7, 3)], [(8, 2), (9, 4)]]
    assert list(itertools.islice(stream, 5)) == expected
    assert list(itertools.islice(stream, 5)) == expected  # from the start each time


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch_size", [1, 4, 30])
def test_batches_are_those_of_detectron2_in_one_process(sampler, batch_size):
    order = SAMPLERS[sampler]()
    images = ({"width": 2 if WIDE[i] else 1, "height": 1, "index": i} for i in order)
    grouped = itertools.islice(AspectRatioGroupedDataset(images, batch_size), 20)
    assert indices(batches(20, sampler, WIDE, batch_size)) == [[image["index"] for image in batch] for batch in grouped]

    found = batches(20, sampler, bytes(SIZE), batch_size)
    assert sum(indices(found), []) == list(itertools.islice(order, 20 * batch_size))
    assert [number for batch in found for number, _ in batch] == list(range(20 * batch_size))


def test_each_image_once_per_pass():
    found = sum(indices(batches(SIZE, groups=bytes(SIZE))), [])
    passes = [found[i : i + SIZE] for i in range(0, 4 * SIZE, SIZE)]
    assert all(sorted(order) == list(range(SIZE)) for order in passes)
    assert len(set(map(tuple, passes))) == 4
    # In groups, each is ahead of or behind the others by what waits.
    counts = Counter(sum(indices(batches(10 * SIZE)), []))
    assert len(counts) == SIZE and max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(sampler, world_size):
    parts = [batches(40, sampler, batch_size=8, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(part) for process in parts for part in process} == {8 // world_size}
    assert [sum(pieces, []) for pieces in zip(*parts)] == batches(40, sampler, batch_size=8)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("groups", [WIDE, bytes(SIZE)], ids=["grouped", "in order"])
def test_a_resumed_stream_goes_on(sampler, groups):
    whole = batches(50, sampler, groups)
    for start in (0, 1, 5, 6, 23, 41):  # in the first pass, at its end, and passes later
        assert batches(50 - start, sampler, groups, start_iter=start) == whole[start:]
    second = batches(10, sampler, groups, start_iter=17, rank=1, world_size=2)
    assert second == [batch[2:] for batch in whole[17:27]]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return write_boxes(tmp_path_factory.mktemp("stream") / "boxes", 10)


scenes = render_once(train=7, test=0, size=64, layouts=("voc", "coco", "classes"))


def coco_masks(scenes):
    name = f"coco:{scenes}/annotations/train.json@{scenes}/JPEGImages"
    return stream_cfg(name, MODEL__MASK_ON=True, INPUT__MASK_FORMAT="bitmask")


def label_maps(scenes):
    keys = {"INPUT__CROP__TYPE": "absolute", "INPUT__CROP__SIZE": [24, 24]}
    keys |= {"MODEL__META_ARCHITECTURE": "SemanticSegmentor", "MODEL__SEM_SEG_HEAD__NUM_CLASSES": 6}
    return stream_cfg(f"voc_seg:{scenes}@train", **keys)


def classes(scenes):
    keys = {"INPUT__CLASSIFICATION__CROP_SIZE": 32, "INPUT__CLASSIFICATION__RESIZE": 40}
    keys |= {"MODEL__META_ARCHITECTURE": "LinearClassifier", "MODEL__CLASSIFIER__NUM_CLASSES": 5}
    return stream_cfg(f"classes:{scenes}/train", **keys)


def with_workers(cfg, count):
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = count
    return cfg


@pytest.mark.parametrize("task", [coco_masks, label_maps, classes])
def test_samples_do_not_depend_on_workers_nor_restarts(scenes, task):
    cfg = task(scenes)
    whole = take(build_train_loader(cfg), 6)
    np.random.seed(7), random.seed(7), torch.manual_seed(7)  # the global state is not part of it
    for workers, start in ((1, 0), (3, 4), (0, 2)):
        loader = build_train_loader(with_workers(cfg, workers))
        loader.start_at(start)
        assert_equal_batches(take(loader, 6 - start), whole[start:])
    # An image of two passes is augmented anew.
    seen = [(sample["file_name"], sample["image"]) for batch in whole for sample in batch]
    again = [(a, b) for (name, a), (other, b) in itertools.combinations(seen, 2) if name == other]
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in again)


def test_orientations_are_not_mixed(boxes):
    for batch in take(build_train_loader(stream_cfg(boxes)), 12):
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1
    mixed = take(build_train_loader(stream_cfg(boxes, DATALOADER__ASPECT_RATIO_GROUPING=False)), 5)
    assert any(len({sample["width"] > sample["height"] for sample in batch}) == 2 for batch in mixed)
    assert sorted(sum(image_ids(mixed), [])) == sorted([*range(10)] * 2)


def test_another_seed_gives_other_data(boxes):
    first, again, other = (take(build_train_loader(stream_cfg(boxes, SEED=seed)), 4) for seed in (3, 3, 4))
    assert_equal_batches(first, again)
    assert image_ids(first) != image_ids(other)
    # Sample 0 of one image, under both seeds.
    dataset = build_train_loader(stream_cfg(boxes)).loader.dataset
    shown = [StreamDataset(dataset.images, dataset.mapper, seed)[0, 6]["image"] for seed in (3, 4)]
    assert shown[0].shape != shown[1].shape or not torch.equal(*shown)


def test_a_data_set_smaller_than_a_batch(tmp_path):
    cfg = stream_cfg(write_boxes(tmp_path / "boxes", 3), SOLVER__IMS_PER_BATCH=8)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    ids = sum(image_ids(take(build_train_loader(cfg), 3)), [])
    assert Counter(ids) == {0: 8, 1: 8, 2: 8}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(boxes, workers):
    states = [torch.get_rng_state(), random.getstate(), np.random.get_state()]
    take(build_train_loader(with_workers(stream_cfg(boxes), workers)), 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    np.testing.assert_equal(np.random.get_state(), states[2])


def test_two_processes(boxes, tmp_path):
    keys = {"DATALOADER__SAMPLER_TRAIN": "RepeatFactorTrainingSampler", "DATALOADER__REPEAT_THRESHOLD": 1.0}
    cfgs = [stream_cfg(boxes), stream_cfg(boxes, **keys)]
    first, second = in_processes(tmp_path / "two", first_samples, cfgs, 5)
    for i, cfg in enumerate(cfgs):
        joined = [part + other for part, other in zip(first[i], second[i])]
        np.testing.assert_equal(joined, plain(take(build_train_loader(cfg), 5)))


def numbered(count):
    return [{"file_name": f"{i}.png", "index": i} for i in range(count)]


class Evens:
    """Mapper that draws from all three generators and makes nothing of odd images."""

    def __call__(self, image):
        drawn = random.random(), np.random.rand(), torch.rand(1).item()
        return None if image["index"] % 2 else (image["index"], *drawn)


def test_generators_follow_from_seed_and_number():
    dataset = StreamDataset(numbered(10), Evens(), 3)
    drawn = [np.array(dataset[number, 4][1:]) for number in (0, 1, 2**40)]
    drawn.append(np.array(StreamDataset(numbered(10), Evens(), 4)[0, 4][1:]))
    assert all((a != b).all() for a, b in itertools.combinations(drawn, 2))
    assert dataset[0, 4][1:] == tuple(drawn[0])
    assert dataset[0, 6][1:] == tuple(drawn[0])  # another image in the same place


def test_an_image_without_a_sample_is_replaced():
    dataset = StreamDataset(numbered(50), Evens(), 3)
    found = [dataset[number, 7] for number in range(100)]
    assert found == [dataset[number, 7] for number in range(100)]
    chosen = {sample[0] for sample in found}
    assert all(index % 2 == 0 for index in chosen) and len(chosen) > 15  # of the 25: not the same one each time
    assert [dataset[number, 8][0] for number in range(5)] == [8] * 5


def test_nothing_but_images_without_a_sample():
    with pytest.raises(UsageError, match="Evens makes no training sample of 1.png, nor of any of 3 random images"):
        StreamDataset(numbered(7)[1::2], Evens(), 3)[0, 0]
    with pytest.raises(UsageError, match=f"nor of any of {MAX_SUBSTITUTES} "):
        StreamDataset(numbered(500)[1::2], Evens(), 3)[0, 0]


class Failing:
    """Mapper that fails ``times`` times, after it has drawn from the generators."""

    def __init__(self, times, error):
        self.times = times
        self.error = error

    def __call__(self, image):
        drawn = np.random.rand(), torch.rand(1).item()
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return drawn


def test_a_sample_that_had_to_be_read_again_is_the_same():
    gone = OSError(errno.EIO, "Input/output error", "0.png")
    assert (
        StreamDataset(numbered(1), Failing(1, gone), 3, 5.0)[0, 0] == StreamDataset(numbered(1), Failing(0, 0), 3)[0, 0]
    )
    with pytest.raises(UsageError, match="0.png cannot be trained on.*Input/output error"):
        StreamDataset(numbered(1), Failing(1, gone), 3)[0, 0]
    with pytest.raises(UnreadableImage):  # other errors are as they were
        StreamDataset(numbered(1), Failing(1, UnreadableImage("?")), 3)[0, 0]


@pytest.mark.parametrize("kind", ["text", "truncated", "missing", "size"])
def test_a_damaged_file_is_named(tmp_path, kind):
    name = write_boxes(tmp_path / "boxes", 2)
    path = tmp_path / "boxes" / "1.png"
    content = path.read_bytes()
    {
        "text": lambda: path.write_text("This is no picture."),
        "truncated": lambda: path.write_bytes(content[: len(content) // 2]),
        "missing": path.unlink,
        "size": lambda: path.write_bytes((tmp_path / "boxes" / "0.png").read_bytes()),
    }[kind]()
    with pytest.raises(UsageError) as caught:
        take(build_train_loader(stream_cfg(name, DATALOADER__ASPECT_RATIO_GROUPING=False)), 1)
    advice = "restore it or take it out" if kind == "size" else "restore the file, or take it out of the data set."
    assert str(caught.value).startswith(str(path)) and advice in str(caught.value)
