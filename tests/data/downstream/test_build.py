"""What the loaders of downstream tasks are built of."""

import itertools
import json
import multiprocessing
import subprocess
import threading

import numpy as np
import pytest
from data_helpers import make_cfg, take
from stream_helpers import SIZES, assert_equal_batches, image_ids, stream_cfg, write_boxes

from pixpro_d2.data.downstream.build import build_sampler, build_test_loader, build_train_loader, orientations
from pixpro_d2.utils.errors import UsageError


def annotated(*classes):
    return [{"annotations": [{"category_id": i}]} for i in classes]


def sampled(count, images, name, seed=3, **keys):
    cfg = make_cfg(SEED=seed)
    cfg.DATALOADER.update(keys, SAMPLER_TRAIN=name)
    return list(itertools.islice(build_sampler(cfg, images), count))


def test_samplers():
    images = annotated(0, 1, 1, 1)
    assert sorted(sampled(4, images, "TrainingSampler")) == [0, 1, 2, 3]
    subset = sampled(8, images, "RandomSubsetTrainingSampler", RANDOM_SUBSET_RATIO=0.5)
    assert len(set(subset)) == 2 and sorted(subset[:2] * 4) == sorted(subset)
    # Class 0 is in a quarter of the images, sqrt(1 / 0.25) = 2 times; the other in three, sqrt(1 / 0.75) = 1.155 times.
    repeated = sampled(5460, images, "RepeatFactorTrainingSampler", REPEAT_THRESHOLD=1.0)
    assert repeated.count(0) == pytest.approx(5460 * 2 / (2 + 3 * 1.155), rel=0.03)


@pytest.mark.parametrize("name", ["TrainingSampler", "RandomSubsetTrainingSampler", "RepeatFactorTrainingSampler"])
def test_samplers_follow_from_the_seed_alone(name):
    orders = []
    for seed in (3, 3, 4):
        keys = {"RANDOM_SUBSET_RATIO": 0.6, "REPEAT_THRESHOLD": 0.2}
        orders.append(sampled(30, annotated(*range(20)), name, seed, **keys))
        np.random.seed(seed)  # which detectron2 draws the seeds of its samplers from
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    "name, keys, message",
    [
        ("RandomSubsetTrainingSampler", {"RANDOM_SUBSET_RATIO": 0.4}, "RANDOM_SUBSET_RATIO is 0.4; .* of the 2 images"),
        ("RepeatFactorTrainingSampler", {}, "RepeatFactorTrainingSampler goes by .* use TrainingSampler"),
    ],
)
def test_samplers_that_cannot_be(name, keys, message):
    with pytest.raises(UsageError, match=message):
        sampled(1, [{"file_name": "a.png"}, {"file_name": "b.png"}], name, **keys)


def test_orientations():
    sizes = [{"width": width, "height": height} for width, height in ((3, 2), (2, 3), (2, 2), (4, 1))]
    assert list(orientations(sizes)) == [1, 0, 0, 1]
    assert list(orientations([*sizes, {"width": 3}])) == [0] * 5


def test_images_without_annotations_are_left_out(tmp_path):
    name = write_boxes(tmp_path / "boxes", 4)
    path = tmp_path / "boxes" / "boxes.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:3]
    path.write_text(json.dumps(content))
    keys = {"DATALOADER__ASPECT_RATIO_GROUPING": False}
    for kept, expected in ((True, {0, 1, 2}), (False, {0, 1, 2, 3})):
        cfg = stream_cfg(name, DATALOADER__FILTER_EMPTY_ANNOTATIONS=kept, **keys)
        assert set(sum(image_ids(take(build_train_loader(cfg), 3)), [])) == expected
    assert sorted(sample["image_id"] for batch in build_test_loader(cfg, name) for sample in batch) == [0, 1, 2, 3]


def test_nothing_to_train_on(tmp_path):
    name = write_boxes(tmp_path / "boxes", 2)
    path = tmp_path / "boxes" / "boxes.json"
    content = json.loads(path.read_text())
    for box in content["annotations"]:
        box["iscrowd"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="Cannot train on DATASETS.TRAIN .*boxes.json.*no image has"):
        build_train_loader(stream_cfg(name))
    with pytest.raises(UsageError, match="DATASETS.TRAIN is empty: name a data set"):
        build_train_loader(make_cfg())


def test_each_image_once_in_testing(tmp_path):
    name = write_boxes(tmp_path / "boxes", 5)
    cfg = stream_cfg(name, INPUT__MIN_SIZE_TEST=24, DATALOADER__NUM_WORKERS=1, SOLVER__IMS_PER_BATCH=2)
    batches = list(build_test_loader(cfg, name))
    assert image_ids(batches) == [[0, 3], [1, 4], [2]]  # images i and i + 3 have the same size
    for sample in itertools.chain(*batches):
        assert (sample["width"], sample["height"]) == SIZES[sample["image_id"] % 3]
        assert min(sample["image"].shape[1:]) == 24 and "instances" not in sample


def build(kind, cfg, name):
    return build_train_loader(cfg) if kind == "train" else build_test_loader(cfg, name)


@pytest.mark.parametrize("kind", ["train", "test"])
def test_a_mount_that_is_away_for_a_moment(tmp_path, kind):
    name = write_boxes(tmp_path / "boxes", 5)
    cfg = stream_cfg(name, INPUT__MIN_SIZE_TEST=24)
    expected = next(iter(build(kind, cfg, name)))
    loader = build(kind, cfg, name)
    (tmp_path / "boxes").rename(tmp_path / "away")
    threading.Timer(0.2, (tmp_path / "away").rename, [tmp_path / "boxes"]).start()
    assert_equal_batches(next(iter(loader)), expected)


@pytest.mark.parametrize("kind", ["train", "test"])
def test_workers_outlive_a_schedulers_signal(tmp_path, kind):
    name = write_boxes(tmp_path / "boxes", 9)
    batches = iter(build(kind, stream_cfg(name, DATALOADER__NUM_WORKERS=1), name))
    next(batches)
    (worker,) = multiprocessing.active_children()
    for signal in ("TERM", "USR1"):
        subprocess.run(["kill", f"-{signal}", str(worker.pid)], check=True)
    assert len(list(itertools.islice(batches, 8))) == 8  # more than were fetched ahead
