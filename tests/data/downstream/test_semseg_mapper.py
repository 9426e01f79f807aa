"""Images and label maps, as segmentation is trained and tested on."""

import numpy as np
import pytest
from data_helpers import noise
from PIL import Image

import configs
from pixpro_d2.data.downstream.semseg_mapper import SemSegMapper
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def pair(tmp_path):
    """An image whose red channel is its label map: both must stay together."""
    labels = np.random.default_rng(0).integers(0, 19, (6, 8)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    labels[:10, :10] = 255
    image = np.stack([labels, labels // 2, 0 * labels], axis=-1)
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return {"file_name": str(tmp_path / "image.png"), "sem_seg_file_name": str(tmp_path / "labels.png"), "image_id": 5}


def mapper(is_train, *opts):
    opts = ["INPUT.MIN_SIZE_TRAIN", (60, 60), "INPUT.CROP.SIZE", [32, 48], "INPUT.MIN_SIZE_TEST", 0, *opts]
    return SemSegMapper(configs.tiny(*opts, config="cityscapes/fcn_R_50_90k.yaml"), is_train)


def test_image_and_labels_are_cut_alike(pair):
    seen = set()
    for _ in range(20):
        sample = mapper(True)(pair)
        assert sample["image"].shape == (3, 32, 48) and sample["sem_seg"].shape == (32, 48)
        assert sample["image"].dtype.is_floating_point is False and str(sample["sem_seg"].dtype) == "torch.int64"
        assert (sample["image"][0] == sample["sem_seg"]).all()
        seen.add(sample["sem_seg"].numpy().tobytes())
    assert len(seen) > 10 and pair["sem_seg_file_name"]  # crops differ, and the data set's dict is left alone


def test_bgr_reverses_the_channels(pair):
    sample = mapper(True, "INPUT.FORMAT", "BGR")(pair)
    assert (sample["image"][2] == sample["sem_seg"]).all()


def test_palette_labels_are_class_numbers(pair):
    labels = Image.open(pair["sem_seg_file_name"])
    palette = Image.fromarray(np.array(labels), "P")
    palette.putpalette([5, 200, 70] * 256)
    palette.save(pair["sem_seg_file_name"])
    sample = mapper(True)(pair)
    assert (sample["image"][0] == sample["sem_seg"]).all()


def test_small_images_are_not_padded(pair):
    assert mapper(True, "INPUT.CROP.SIZE", [100, 100])(pair)["image"].shape == (3, 60, 80)


def test_testing_reads_no_labels(pair):
    sample = mapper(False)(dict(pair, sem_seg_file_name="/nowhere.png"))
    assert "sem_seg" not in sample and sample["image"].shape == (3, 60, 80)
    assert (sample["height"], sample["width"], sample["image_id"]) == (60, 80, 5)


@pytest.mark.parametrize("is_train", [True, False])
def test_the_size_in_the_data_set_must_be_the_image_s(is_train, pair):
    assert mapper(is_train)({**pair, "height": 60, "width": 80})["height"] == 60
    with pytest.raises(UsageError, match=r"image\.png is 80 x 60 pixels, but its data set .* says 80 x 59"):
        mapper(is_train)({**pair, "height": 59, "width": 80})


def test_mistakes_name_the_file(pair, tmp_path):
    with pytest.raises(UsageError, match=r"labels\.png holds 18, but labels are 0 to 17 or 255"):
        mapper(True, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 18)(pair)
    Image.fromarray(noise(0, 6, 8, 0)).save(tmp_path / "small.png")
    with pytest.raises(UsageError, match=r"small\.png must have its image's size 80 x 60, but it is 8 x 6"):
        mapper(True)(dict(pair, sem_seg_file_name=str(tmp_path / "small.png")))
    Image.fromarray(noise(0, 60, 80)).save(tmp_path / "colour.png")
    with pytest.raises(UsageError, match=r"colour\.png .*must be a PNG with one class id"):
        mapper(True)(dict(pair, sem_seg_file_name=str(tmp_path / "colour.png")))
    with pytest.raises(UsageError, match=r"none\.png is not a readable label file"):
        mapper(True)(dict(pair, sem_seg_file_name=str(tmp_path / "none.png")))
    with pytest.raises(UsageError, match=r"none\.jpg"):
        mapper(True)(dict(pair, file_name=str(tmp_path / "none.jpg")))
