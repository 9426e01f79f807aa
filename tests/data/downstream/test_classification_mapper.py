"""From a labelled image file to a classifier's input, alone and in detectron2's loaders."""

import itertools

import numpy as np
import pytest
import torch
from classification_helpers import classifier_cfg
from data_helpers import assert_same_distribution, noise
from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader
from PIL import Image

from pixpro_d2.data.downstream.classification_mapper import ClassificationMapper
from pixpro_d2.data.pretrain.views import sample_view
from pixpro_d2.utils.errors import UsageError


def mapper(is_train, **keys):
    return ClassificationMapper(classifier_cfg("LinearClassifier", **keys), is_train)


def write(path, array):
    Image.fromarray(array).save(path)
    return {"file_name": str(path), "image_id": 5, "category_id": 2}


@pytest.fixture
def dataset(tmp_path):
    """Eight images of which each has one grey value, 20 times its number, as a registered data set."""
    name = f"grey {tmp_path}"
    items = []
    for i in range(8):
        item = write(tmp_path / f"{i}.png", np.full((50, 60 + i, 3), 20 * i, dtype=np.uint8))
        items.append({**item, "image_id": i, "category_id": i % 4})
    DatasetCatalog.register(name, lambda: items)
    yield name
    DatasetCatalog.remove(name)


@pytest.mark.parametrize("is_train", [True, False])
def test_sample(tmp_path, is_train):
    item = write(tmp_path / "image.png", noise(0, 60, 80))
    before = dict(item)
    sample = mapper(is_train)(item)
    assert item == before
    assert {key: sample[key] for key in item} == item
    assert (sample["height"], sample["width"]) == (60, 80)
    assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8


def test_testing_takes_the_centre_of_the_resized_image(tmp_path):
    # The shorter side is RESIZE already, so nothing is interpolated.
    pixels = noise(0, 40, 100)
    sample = mapper(False)(write(tmp_path / "image.png", pixels))
    expected = pixels[4:36, 34:66].transpose(2, 0, 1)
    assert np.array_equal(sample["image"].numpy(), expected)
    large = Image.fromarray(pixels).resize((200, 80), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    resized = np.asarray(large.resize((100, 40), Image.Resampling.BILINEAR))[4:36, 34:66].transpose(2, 0, 1)
    sample = mapper(False)(write(tmp_path / "copy.png", np.asarray(large)))
    assert np.array_equal(sample["image"].numpy(), resized)


def test_channel_order(tmp_path):
    item = write(tmp_path / "image.png", np.full((50, 50, 3), (10, 20, 30), dtype=np.uint8))

    def color(**keys):
        return mapper(False, **keys)(item)["image"][:, 0, 0].tolist()

    assert color(INPUT__FORMAT="RGB") == [10, 20, 30]
    assert color(INPUT__FORMAT="BGR") == [30, 20, 10]
    assert color(INPUT__FORMAT="L") == [18]  # 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15


def test_training_crops_and_flips_at_random(tmp_path):
    # Red tells the column and green the row of the crop.
    y, x = np.mgrid[:200, :200]
    item = write(tmp_path / "image.png", np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    torch.manual_seed(0)
    cut = mapper(True, INPUT__CLASSIFICATION__MIN_SCALE=0.25)
    images = torch.stack([cut(item)["image"] for _ in range(400)]).float()
    slope_x = (images[:, 0, 16, 31] - images[:, 0, 16, 0]) / 31
    slope_y = (images[:, 1, 31, 16] - images[:, 1, 0, 16]) / 31
    flipped = slope_x < 0
    assert 0.4 < flipped.float().mean() < 0.6 and (slope_y > 0).all()
    # A pixel of the input is as wide as the crop is, over its 32 columns.
    rng = np.random.default_rng(0)
    views = [sample_view(rng, 200, 200, min_scale=0.25) for _ in range(4000)]
    area = slope_x.abs() * slope_y * 32**2 / 200**2
    assert_same_distribution(area, [view.width * view.height / 200**2 for view in views], "area")
    ratio = slope_x.abs() / slope_y
    assert_same_distribution(ratio, [view.width / view.height for view in views], "ratio")


def test_train_loader(dataset):
    cfg = classifier_cfg("LinearClassifier", dataset, SOLVER__IMS_PER_BATCH=4)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    loader = build_detection_train_loader(cfg, mapper=ClassificationMapper(cfg, True))
    batches = list(itertools.islice(loader, 4))
    assert [len(batch) for batch in batches] == [4] * 4
    for epoch in (batches[:2], batches[2:]):
        samples = [x for batch in epoch for x in batch]
        assert sorted(x["image_id"] for x in samples) == list(range(8))
        assert all((x["image"] == 20 * x["image_id"]).all() for x in samples)


def test_test_loader(dataset):
    cfg = classifier_cfg("LinearClassifier")
    loader = build_detection_test_loader(cfg, dataset, mapper=ClassificationMapper(cfg, False))
    samples = [x for batch in loader for x in batch]
    assert [(x["image_id"], x["category_id"]) for x in samples] == [(i, i % 4) for i in range(8)]


def test_workers_and_epochs_cut_different_crops(tmp_path):
    # One image, so that equal random numbers would give equal crops.
    items = [write(tmp_path / "image.png", noise(0, 60, 80))] * 2
    loader = build_detection_train_loader(
        items, mapper=mapper(True), total_batch_size=2, aspect_ratio_grouping=False, num_workers=2
    )
    images = {x["image"].numpy().tobytes() for batch in itertools.islice(loader, 6) for x in batch}
    assert len(images) == 12


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_is_named(tmp_path, num_workers):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    items = [{"file_name": str(tmp_path / "broken.png"), "category_id": 0}]
    loader = build_detection_test_loader(items, mapper=mapper(False), num_workers=num_workers)
    with pytest.raises(UsageError, match="broken.png: not an image"):
        list(loader)


def test_categories_are_checked(tmp_path):
    item = write(tmp_path / "image.png", noise(0, 60, 80))
    with pytest.raises(UsageError, match="image.png has category_id 4, but classes are 0 to 3.*NUM_CLASSES"):
        mapper(False)({**item, "category_id": 4})
    del item["category_id"]
    with pytest.raises(UsageError, match="image.png has no category_id"):
        mapper(True)(item)
