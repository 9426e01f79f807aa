"""The data set loaders: folders of images, Pascal VOC and ImageNet layouts."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import logged, noise, write_images
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image, features
from rendering import render_once

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.datasets.imagenet import load_imagenet
from pixpro_d2.data.datasets.images import EXTENSIONS, list_images
from pixpro_d2.data.datasets.paths import read_class_names, read_image_ids
from pixpro_d2.data.datasets.voc import class_names, load_voc, read_annotation
from pixpro_d2.data.io.reader import read_image
from pixpro_d2.extras.scenes.scene import CLASSES
from pixpro_d2.utils.errors import UsageError


def test_images_are_found_by_extension_in_a_fixed_order(tmp_path):
    images = ["b.png", "a.PNG", "c.JPEG", "z/a.jpg", "z/y/b.WebP", "A/d.tiff"]
    for name in (*images, "a.txt", "png", "z/x.jpg.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = ["a.PNG", "b.png", "c.JPEG", "A/d.tiff", "z/a.jpg", "z/y/b.WebP"]
    assert list_images(str(tmp_path)) == [str(tmp_path / name) for name in expected]


def test_photographs_that_are_not_read_are_counted(tmp_path):
    for name in ("a.png", "b.HEIC", "c.heic", "sub/d.cr2", "g.NII.gz", "sub/._e.heic", "@eaDir/f.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with logged("pixpro_d2.data.datasets.images") as messages:
        assert list_images(str(tmp_path)) == [str(tmp_path / "a.png")]
    assert messages == [f"Below {tmp_path}, 4 files (.cr2, .heic, .nii.gz) are not read: convert them to JPEG or PNG."]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_listed_extension_can_be_read(tmp_path, extension):
    if extension == ".avif" and not features.check("avif"):
        pytest.skip("This Pillow has no AVIF.")
    path = tmp_path / f"image{extension}"
    Image.fromarray(noise(0, 4, 5, 0 if extension == ".pgm" else 3)).save(path)
    assert list_images(str(tmp_path)) == [str(path)]
    assert read_image(str(path)).size == (5, 4)


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_images(tmp_path / "elsewhere", 2)
    write_images(tmp_path / "root" / "here", 1)
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "here" / "up").symlink_to(tmp_path / "root")
    found = [str(Path(path).relative_to(tmp_path / "root")) for path in list_images(str(tmp_path / "root"))]
    assert found == ["here/000.png", "link/000.png", "link/001.png"]


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="No image file") as caught:
        list_images(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


rendered = render_once(train=6, test=4, size=48, seed=1)


@pytest.fixture
def voc(rendered, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(rendered, tmp_path / "scenes"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_voc_is_as_detectron2_loads_it(rendered, split):
    ours = load_voc(str(rendered), split)
    classes = class_names(str(rendered))
    theirs = load_voc_instances(str(rendered), split, classes)
    assert len(ours) == {"train": 6, "test": 4}[split]
    assert ours == [{**record, "image_id": str(record["image_id"])} for record in theirs]


def test_voc_classes_are_those_of_all_splits(voc):
    everything = {name for xml in (voc / "Annotations").iterdir() for name, *_ in read_annotation(xml)[2]}
    assert everything <= set(CLASSES) and len(everything) > 2
    # A split of one image, which does not show all of the classes.
    stems = [xml.stem for xml in sorted((voc / "Annotations").iterdir())]
    shown = {stem: {n for n, *_ in read_annotation(voc / "Annotations" / f"{stem}.xml")[2]} for stem in stems}
    stem = min(stems, key=lambda stem: len(shown[stem]))
    assert shown[stem] < everything
    (voc / "ImageSets" / "Main" / "one.txt").write_text(f"{stem}  1\n\n")
    names = [f"voc:{voc}@{split}" for split in ("one", "train", "test")]
    ensure_registered(names)
    for name in names:
        assert MetadataCatalog.get(name).thing_classes == sorted(everything)
    (record,) = DatasetCatalog.get(names[0])
    assert record["image_id"] == stem
    labels = {sorted(everything)[annotation["category_id"]] for annotation in record["annotations"]}
    assert labels == shown[stem]


def test_voc_goes_with_detectron2s_evaluator(rendered):
    # The annotations themselves as predictions have full average precision.
    name = f"voc:{rendered}@train"
    ensure_registered([name])
    dicts = DatasetCatalog.get(name)
    evaluator = PascalVOCDetectionEvaluator(name)
    evaluator.reset()
    for record in dicts:
        found = Instances((record["height"], record["width"]))
        boxes = [annotation["bbox"] for annotation in record["annotations"]]
        found.pred_boxes = Boxes(torch.tensor(boxes))
        found.pred_classes = torch.tensor([annotation["category_id"] for annotation in record["annotations"]])
        found.scores = torch.ones(len(boxes))
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": found}])
    with np.errstate(invalid="ignore"):
        result = evaluator.evaluate()["bbox"]
    assert result["AP"] == pytest.approx(100)


def test_voc_boxes_are_continuous(tmp_path):
    # VOC's first and last pixel, counted from 1, of a box that covers pixels 10 to 19.
    text = "<annotation><size><width>50</width><height>40</height></size><object><name>x</name><bndbox>"
    text += "<xmin>11</xmin><ymin>1</ymin><xmax>20</xmax><ymax>40</ymax></bndbox></object></annotation>"
    (tmp_path / "a.xml").write_text(text)
    assert read_annotation(tmp_path / "a.xml") == (50, 40, [("x", [10, 0, 20, 40], False)])


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".PNG", ".jpeg", ".JPEG", ".bmp"])
def test_voc_finds_other_extensions(voc, suffix):
    old = voc / "JPEGImages" / "000001.jpg"
    new = old.with_suffix(suffix)
    with Image.open(old) as image:
        image.save(new)
    old.unlink()
    dicts = load_voc(str(voc), "train")
    assert [record["file_name"] for record in dicts][:3] == [
        str(voc / "JPEGImages" / name) for name in ("000000.jpg", new.name, "000002.jpg")
    ]
    assert read_image(dicts[1]["file_name"]).size == (48, 48)


def test_voc_missing_image(voc):
    (voc / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(UsageError, match="no image for 000001") as caught:
        load_voc(str(voc), "train")
    assert str(voc / "JPEGImages") in str(caught.value)


BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
SIZE = "<size><width>48</width><height>48</height></size>"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<annotation><object>",
        "not xml",
        "<annotation></annotation>",
        f"<annotation>{SIZE}<object><name>disk</name></object></annotation>",
        f"<annotation>{SIZE}<object><name>disk</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
        f"<annotation>{SIZE}<object><name>disk</name>{BOX.replace('5', 'five')}</object></annotation>",
        f"<annotation>{SIZE}<object>{BOX}</object></annotation>",
        f"<annotation>{SIZE}<object><name></name>{BOX}</object></annotation>",
        f"<annotation>{SIZE}<object><name>disk</name>{BOX.replace('5', 'nan')}</object></annotation>",
        f"<annotation>{SIZE}<object><name>disk</name>{BOX.replace('5', '1e999')}</object></annotation>",
        f"<annotation>{SIZE.replace('48', '')}<object><name>disk</name>{BOX}</object></annotation>",
    ],
)
def test_voc_broken_annotation(voc, content):
    path = voc / "Annotations" / "000001.xml"
    path.write_text(content)
    name = f"voc:{voc}@train"
    for _ in range(2):  # a failed attempt leaves nothing registered behind
        with pytest.raises(UsageError, match="not a usable Pascal VOC annotation") as caught:
            ensure_registered([name])
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert name not in DatasetCatalog.list()


def test_voc_missing_annotations(voc):
    (voc / "Annotations" / "000001.xml").unlink()
    with pytest.raises(UsageError, match=r"000001\.xml"):
        load_voc(str(voc), "train")


def test_voc_without_annotations_folder(voc):
    shutil.rmtree(voc / "Annotations")
    name = f"voc:{voc}@test"
    with pytest.raises(UsageError, match="no folder") as caught:
        ensure_registered([name])
    assert str(voc / "Annotations") in str(caught.value)
    assert name not in DatasetCatalog.list()


def test_voc_without_objects_or_images(voc):
    (voc / "ImageSets" / "Main" / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"empty\.txt names no image"):
        load_voc(str(voc), "empty")
    for xml in (voc / "Annotations").iterdir():
        xml.write_text(f"<annotation>{SIZE}</annotation>")
    with pytest.raises(UsageError, match="No annotated object"):
        ensure_registered([f"voc:{voc}@test"])


def test_voc_names_that_are_not_ascii(tmp_path):
    root = tmp_path / "дата"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("日本\n", encoding="utf-8")
    write_images(root / "JPEGImages", 1)[0].rename(root / "JPEGImages/日本.png")
    text = (
        f"<?xml version='1.0' encoding='latin-1'?><annotation>{SIZE}<object><name>Tür</name>{BOX}</object></annotation>"
    )
    (root / "Annotations/日本.xml").write_bytes(text.encode("latin-1"))
    (record,) = load_voc(str(root), "train")
    assert record["file_name"] == f"{root}/JPEGImages/日本.png" and class_names(str(root)) == ["Tür"]


LISTS = {
    "classes.txt": read_class_names,
    "train.txt": lambda folder: read_image_ids(f"{folder}/train.txt", lambda image_id: True),
}


@pytest.mark.parametrize("file", LISTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # the latter as Windows' editors write it
def test_lists_are_in_utf_8(tmp_path, file, encoding):
    path = tmp_path / file
    path.write_text("Tür\n日本\n", encoding=encoding)
    assert LISTS[file](str(tmp_path)) == ["Tür", "日本"]
    path.write_bytes("Tür\n".encode("latin-1"))
    with pytest.raises(UsageError, match=rf"{file} is no text in UTF-8"):
        LISTS[file](str(tmp_path))


@pytest.mark.parametrize(
    ("line", "image_id"),
    [
        ("photo", "photo"),
        ("  photo \t1", "photo"),
        ("photo -1", "photo"),
        ("photo b 1", "photo b"),  # not photo, which is another image
        ("photo  1  0", "photo  1"),
        ("JPEGImages/x.jpg SegmentationClass/x.png", "JPEGImages/x.jpg"),
        ("none there", "none there"),  # told as it is written
    ],
)
def test_image_ids_may_have_spaces_and_words_behind_them(tmp_path, line, image_id):
    (tmp_path / "split.txt").write_text(f"{line}\n\n")
    there = {"photo", "photo b", "photo  1", "JPEGImages/x.jpg"}
    assert read_image_ids(str(tmp_path / "split.txt"), there.__contains__) == [image_id]


def test_image_ids_have_no_extension(tmp_path):
    (tmp_path / "split.txt").write_text("a.b\nv1.3\n000.png\n")
    with pytest.raises(UsageError, match="split.txt names 000.png: write 000, without .png.$"):
        read_image_ids(str(tmp_path / "split.txt"), {"a", "a.b", "v1", "000"}.__contains__)


@pytest.fixture
def imagenet(tmp_path):
    """Root with a folder of two classes as ``train`` and the same images zipped as ``val``."""
    root = tmp_path / "imagenet"
    for wnid, start in (("n02", 0), ("n01", 2)):
        (root / "train" / wnid).mkdir(parents=True)
        for i in (start, start + 1):
            Image.fromarray(noise(i, 6, 5)).save(root / "train" / wnid / f"{i}.JPEG", format="PNG")
    lines = []
    with zipfile.ZipFile(root / "val.zip", "w") as archive:
        for label, wnid in ((7, "n02"), (3, "n01")):
            for path in sorted((root / "train" / wnid).iterdir()):
                archive.write(path, f"val/{wnid}/{path.name}")
                lines.append(f"val/{wnid}/{path.name}\t{label}\n")
    (root / "val_map.txt").write_text("".join(lines))
    return root


def test_imagenet_folders(imagenet):
    dicts, classes = load_imagenet(str(imagenet), "train")
    assert classes == ["n01", "n02"]
    files = ["n01/2.JPEG", "n01/3.JPEG", "n02/0.JPEG", "n02/1.JPEG"]
    assert [record["file_name"] for record in dicts] == [str(imagenet / "train" / name) for name in files]
    assert [record["category_id"] for record in dicts] == [0, 0, 1, 1]
    assert [record["image_id"] for record in dicts] == [0, 1, 2, 3]


def test_imagenet_zip(imagenet):
    dicts, classes = load_imagenet(str(imagenet), "val")
    assert classes == [str(i) for i in range(8)]
    assert [record["category_id"] for record in dicts] == [7, 7, 3, 3]
    assert [record["image_id"] for record in dicts] == [0, 1, 2, 3]
    for i, record in enumerate(dicts):
        np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), noise(i, 6, 5))
        assert record["file_name"].startswith(str(imagenet / "val.zip"))


@pytest.mark.parametrize("line", ["n01/2.JPEG 3", "n01/2.JPEG\tn01", "n01/2.JPEG\t", "n01/2.JPEG\t-1"])
def test_imagenet_malformed_map(imagenet, line):
    with open(imagenet / "val_map.txt", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UsageError, match=r"val_map\.txt, line 5: expected"):
        load_imagenet(str(imagenet), "val")


def test_imagenet_missing(imagenet):
    with pytest.raises(UsageError, match=r"test/<wnid>.*test\.zip.*test_map\.txt") as caught:
        load_imagenet(str(imagenet), "test")
    assert str(imagenet) in str(caught.value) and "DETECTRON2_DATASETS" in str(caught.value)
    (imagenet / "val_map.txt").unlink()  # the archive alone is not enough
    with pytest.raises(UsageError, match="ImageNet is not in"):
        load_imagenet(str(imagenet), "val")


def test_imagenet_is_registered():
    for split in ("train", "val"):
        assert f"imagenet_{split}" in DatasetCatalog.list()
        assert MetadataCatalog.get(f"imagenet_{split}").evaluator_type == "classification"


def test_imagenet_members_that_are_not_ascii(tmp_path):
    write_images(tmp_path, 1)
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.write(tmp_path / "000.png", "鳥/é.png")
    (tmp_path / "train_map.txt").write_text("鳥/é.png\t0\n", encoding="utf-8")
    (record,), _ = load_imagenet(str(tmp_path), "train")
    np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), noise(0, 12, 16))
