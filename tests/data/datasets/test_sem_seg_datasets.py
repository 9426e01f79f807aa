"""Semantic segmentation in folders of PNG files and in Pascal VOC layout."""

import struct
import zlib

import numpy as np
import pytest
import torch
from data_helpers import dicts_of, logged
from detectron2.data import MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from PIL import Image
from rendering import render_once

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.datasets.semseg import match_files, read_label
from pixpro_d2.data.datasets.voc_seg import VOC_CLASSES, match_voc_files
from pixpro_d2.extras.scenes.scene import CLASSES
from pixpro_d2.utils.errors import UsageError

LABEL = np.array([[0, 1, 255], [3, 3, 0]], dtype=np.uint8)


def _write(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array, mode="P") if palette else Image.fromarray(array)
    if palette:
        image.putpalette([255 - i // 3 for i in range(768)])  # colours whose grey is not the id
    image.save(path)


@pytest.fixture
def folders(tmp_path):
    """Images a.jpg and deep/b.png, 2 x 3 pixels, and their labels, of which one has a palette."""
    for name in ("a.jpg", "deep/b.png"):
        _write(tmp_path / "images" / name, np.zeros((2, 3, 3), dtype=np.uint8))
    _write(tmp_path / "labels" / "a.png", LABEL, palette=True)
    _write(tmp_path / "labels" / "deep" / "b.png", np.minimum(LABEL, 2))
    return tmp_path


def _write_grey_png(path, bits, rows):
    """Grey PNG of 8 pixels a row, of 2 or 4 bits each, which Pillow cannot write."""
    packed = b"".join(b"\0" + sum(x << bits * (7 - i) for i, x in enumerate(row)).to_bytes(bits, "big") for row in rows)
    header = struct.pack(">IIBBBBB", 8, len(rows), bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17)])
def test_ids_that_pillow_multiplies_are_refused(folders, bits, factor):
    path = folders / "labels" / "a.png"
    _write_grey_png(path, bits, [[0, 1, 2, 3] * 2])
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == [[0, factor, 2 * factor, 3 * factor] * 2]
    (folders / "labels" / "classes.txt").write_text("a\nb\nc\nd\n")
    words = rf"^{path} is grey with 2 or 4 bits a pixel, .*: save it with 8 bits\.$"
    with pytest.raises(UsageError, match=words):
        read_label(str(path))
    with pytest.raises(UsageError, match=words):  # before a training, and before an evaluation
        _load(_name(folders))


def test_palettes_of_few_bits(tmp_path):
    image = Image.frombytes("P", (4, 1), bytes([0, 1, 2, 3]))
    image.putpalette(range(12))
    for bits in (2, 4):
        image.save(tmp_path / "a.png", bits=bits)
        assert read_label(str(tmp_path / "a.png")).tolist() == [[0, 1, 2, 3]]


def _name(folders):
    return f"semseg:{folders / 'images'}@{folders / 'labels'}"


def _load(name):
    return dicts_of(name), MetadataCatalog.get(name)


def test_dicts_and_metadata(folders):
    (folders / "labels" / "classes.txt").write_text("road\nsky\nwall\nhouse\n\n")
    dicts, metadata = _load(_name(folders))
    assert dicts[1] == {
        "file_name": str(folders / "images/deep/b.png"),
        "image_id": "deep/b",
        "height": 2,
        "width": 3,
        "sem_seg_file_name": str(folders / "labels/deep/b.png"),
    }
    assert [record["image_id"] for record in dicts] == ["a", "deep/b"]
    assert metadata.stuff_classes == ["road", "sky", "wall", "house"]
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", 255)


def test_classes_are_counted_once_if_they_have_no_names(folders):
    name = _name(folders)
    ensure_registered([name])
    assert MetadataCatalog.get(name).get("stuff_classes", None) is None
    with logged("pixpro_d2") as messages:
        _, metadata = _load(name)
        assert metadata.stuff_classes == ["0", "1", "2", "3"]  # 255 is not one
        assert any("4 classes" in message for message in messages)
        messages.clear()
        _load(name)
        assert messages == []


def test_palette_indices_are_the_ids(folders):
    np.testing.assert_array_equal(read_label(folders / "labels" / "a.png"), LABEL)
    with Image.open(folders / "labels" / "a.png") as image:
        assert (np.asarray(image.convert("L")) != LABEL).any()
    _write(folders / "16.png", LABEL.astype(np.uint16))
    np.testing.assert_array_equal(read_label(folders / "16.png", (3, 2)), LABEL)
    with pytest.raises(UsageError, match=r"16\.png must have its image's size 2 x 3, but it is 3 x 2"):
        read_label(folders / "16.png", (2, 3))


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((2, 3, 3), dtype=np.uint8), "mode RGB"), (np.full((2, 3), 256, dtype=np.uint16), "0 to 255")],
)
def test_labels_that_are_no_ids(tmp_path, array, message):
    _write(tmp_path / "x.png", array)
    with pytest.raises(UsageError, match=message) as caught:
        read_label(tmp_path / "x.png")
    assert str(tmp_path / "x.png") in str(caught.value)


def test_a_damaged_label(folders):
    path = folders / "labels" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match="not a readable label file"):
        read_label(path)
    path.write_text("no png")
    with pytest.raises(UsageError, match="not a readable label file") as caught:
        _load(_name(folders))
    assert str(path) in str(caught.value)


def test_files_without_a_partner_are_left_out(folders):
    _write(folders / "images" / "c.png", LABEL)
    _write(folders / "labels" / "d.png", LABEL)
    with logged("pixpro_d2") as messages:
        assert list(match_files(str(folders / "images"), str(folders / "labels"))) == ["a", "deep/b"]
    assert "1 images" in messages[0] and "1 labels" in messages[0]


def test_mistakes_in_folders(folders):
    images, labels = str(folders / "images"), str(folders / "labels")
    with pytest.raises(UsageError, match="No image below"):
        match_files(images, str(folders / "labels" / "deep"))
    _write(folders / "images" / "a.png", LABEL)
    with pytest.raises(UsageError, match="differ by their extension"):
        match_files(images, labels)
    with pytest.raises(UsageError, match="no label folder"):
        ensure_registered([f"semseg:{images}@{folders}/none"])
    with pytest.raises(UsageError, match="no image folder"):
        ensure_registered([f"semseg:{folders}/none@{labels}"])


@pytest.mark.parametrize(("text", "line"), [("", 1), ("a\n\nb\n", 2), ("a\nb\na\n", 3)])
def test_mistakes_in_class_names(folders, text, line):
    (folders / "labels" / "classes.txt").write_text(text)
    with pytest.raises(UsageError, match=rf"classes\.txt, line {line}:"):
        ensure_registered([_name(folders)])


def test_labels_of_nothing_but_ignored_pixels(folders):
    for path in (folders / "labels").rglob("*.png"):
        _write(path, np.full_like(LABEL, 255))
    with pytest.raises(UsageError, match="all pixels"):
        _load(_name(folders))


rendered = render_once(train=4, test=3, size=64, layouts=["voc"])


def test_the_labels_themselves_evaluate_to_100(rendered):
    name = f"voc_seg:{rendered}@test"
    dicts, metadata = _load(name)
    assert metadata.stuff_classes == ["background", *CLASSES]
    evaluator = SemSegEvaluator(name, distributed=False)
    scores = []
    for worsen in (False, True):
        evaluator.reset()
        for record in dicts:
            label = torch.from_numpy(read_label(record["sem_seg_file_name"])).long()
            label[label == 255] = 5  # whatever is predicted there does not count
            if worsen:
                label[: label.shape[0] // 2] = 1
            prediction = torch.nn.functional.one_hot(label, 6).permute(2, 0, 1)
            evaluator.process([record], [{"sem_seg": prediction}])
        scores.append(evaluator.evaluate()["sem_seg"]["mIoU"])
    assert scores[0] == pytest.approx(100) and scores[1] < 90


def test_voc_classes_unless_there_is_a_list(rendered, tmp_path):
    for part in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (tmp_path / part).symlink_to(rendered / part)
    name = f"voc_seg:{tmp_path}@train"
    ensure_registered([name])
    assert MetadataCatalog.get(name).stuff_classes == list(VOC_CLASSES)
    assert (len(VOC_CLASSES), VOC_CLASSES[0], VOC_CLASSES[15], VOC_CLASSES[20]) == (
        21,
        "background",
        "person",
        "tvmonitor",
    )


def test_the_augmented_split_takes_the_augmented_labels(tmp_path):
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        _write(tmp_path / folder / "x.png", LABEL)
    _write(tmp_path / "JPEGImages" / "x.jpg", np.zeros((2, 3, 3), dtype=np.uint8))
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split in ("train", "train_aug"):
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("x\n")
    root = str(tmp_path)
    assert match_voc_files(root, "train")["x"][1] == f"{root}/SegmentationClass/x.png"
    assert match_voc_files(root, "train_aug")["x"][1] == f"{root}/SegmentationClassAug/x.png"
    (tmp_path / "SegmentationClassAug" / "x.png").unlink()
    with pytest.raises(UsageError, match=r"There is no label .*SegmentationClassAug/x\.png"):
        match_voc_files(root, "train_aug")


def test_voc_seg_missing_split(rendered):
    with pytest.raises(UsageError, match=r"ImageSets/Segmentation/val\.txt"):
        ensure_registered([f"voc_seg:{rendered}@val"])
