"""Data sets addressed by path: every scheme, awkward paths, and mistakes."""

import json
import re
import shutil

import pytest
from data_helpers import dicts_of, write_images
from detectron2.data import DatasetCatalog, MetadataCatalog
from rendering import render_once

from pixpro_d2.data.datasets.catalog import SCHEMES, ensure_registered, expire_registered, is_name
from pixpro_d2.data.datasets.paths import splits_in
from pixpro_d2.utils.errors import UsageError

# Names of folders that an address must survive.
AWKWARD = ["plain", "at@sign", "co:lon", "two words", "ünïcode 画像", "a@b:c d@e.json@f"]

scenes = render_once(train=2, test=2, size=32)


layouts = render_once(train=2, test=2, size=64, layouts=["voc", "cityscapes", "classes"])


@pytest.mark.parametrize("folder", AWKWARD)
def test_images(tmp_path, folder):
    paths = write_images(tmp_path / folder / "deep", 2) + write_images(tmp_path / folder, 1)
    dicts = dicts_of(f"images:{tmp_path / folder}")
    assert {record["file_name"] for record in dicts} == {str(path) for path in paths}
    assert [record["image_id"] for record in dicts] == [0, 1, 2]


@pytest.mark.parametrize("folder", AWKWARD)
def test_voc_and_coco(tmp_path, scenes, folder):
    root = tmp_path / folder
    root.parent.mkdir(exist_ok=True)
    root.symlink_to(scenes)
    for split, number in (("train", 0), ("test", 2)):
        names = [f"{number:06d}.jpg", f"{number + 1:06d}.jpg"]
        for address in (f"voc:{root}@{split}", f"coco:{root}/annotations/{split}.json@{root}/JPEGImages"):
            dicts = dicts_of(address)
            files = [record["file_name"] for record in dicts]
            assert files == [f"{root}/JPEGImages/{name}" for name in names]
            assert all(record["annotations"] for record in dicts)
    assert MetadataCatalog.get(f"voc:{root}@train").evaluator_type == "pascal_voc"
    assert MetadataCatalog.get(address).evaluator_type == "coco"
    classes = MetadataCatalog.get(f"voc:{root}@train").thing_classes
    assert set(classes) <= set(MetadataCatalog.get(address).thing_classes)


@pytest.mark.parametrize("folder", AWKWARD)
def test_video(tmp_path, folder):
    write_images(tmp_path / folder / "b", 2)
    write_images(tmp_path / folder / "a", 3)
    dicts = dicts_of(f"video:{tmp_path / folder}")
    assert [(record["video"], record["num_frames"]) for record in dicts] == [("a", 3), ("b", 2)]


def test_relative_paths(tmp_path, monkeypatch):
    write_images(tmp_path / tmp_path.name, 2)
    monkeypatch.chdir(tmp_path)
    assert [record["file_name"] for record in dicts_of(f"images:{tmp_path.name}")] == [
        f"{tmp_path.name}/000.png",
        f"{tmp_path.name}/001.png",
    ]


def test_a_name_may_come_again(tmp_path, scenes):
    write_images(tmp_path, 1)
    names = [f"images:{tmp_path}", f"voc:{scenes}@train", f"images:{tmp_path}"]
    ensure_registered(names)
    ensure_registered(names)
    assert len(DatasetCatalog.get(names[0])) == 1


def test_registered_names_are_taken_as_they_are(tmp_path):
    name = f"images:{tmp_path / 'none'}"
    DatasetCatalog.register(name, lambda: [{"file_name": "x"}])
    for _ in range(2):
        assert dicts_of(name) == [{"file_name": "x"}]
        expire_registered()
    ensure_registered(["coco_2017_train", "voc_2007_trainval", "imagenet_train"])


@pytest.mark.parametrize("text", ["images:photos", "voc:data@train", "imagenet_train"])
def test_names(text):
    assert is_name(text)


@pytest.mark.parametrize("text", ["images", "video", "voc", "photos", "photos/a.jpg", "a:b"])
def test_folders_are_no_names_even_if_called_like_a_scheme(text):
    assert not is_name(text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_dataset", "my_dataset.*not registered.*images:DIR, voc:DIR@SPLIT, coco:JSON@IMAGE_DIR"),
        ("images", "not registered"),
        ("coco_2017_trian", r"not registered; did you mean coco_2017_train\?$"),
        ("image:/tmp", r"not registered; did you mean images:/tmp\?$"),
        ("cityscape:/data@train", r"did you mean cityscapes:/data@train\?$"),
        ("", "not registered"),
        ("folder:/tmp", "folder:/tmp.*not registered"),
        ("IMAGES:/tmp", "not registered"),
        ("/data/images", "not registered"),
        ("images:", "malformed.*images:DIR"),
        ("voc:", "malformed"),
        ("voc:/data/VOC2012", r"malformed.*voc:DIR@SPLIT"),
        ("voc:@train", "malformed"),
        ("voc:/data/VOC2012@", "malformed"),
        ("coco:/data/a.json", "malformed.*coco:JSON@IMAGE_DIR"),
        ("coco:@/data", "malformed"),
        ("coco:/data/a.json@", "malformed"),
    ],
)
def test_mistakes_in_a_name(name, message):
    with pytest.raises(UsageError, match=message):
        ensure_registered([name])
    assert name not in DatasetCatalog.list()


def test_missing_paths(tmp_path, scenes):
    json_file, images = scenes / "annotations" / "train.json", scenes / "JPEGImages"
    for name, missing in [
        (f"images:{tmp_path}/none", f"{tmp_path}/none"),
        (f"images:{json_file}", json_file),  # a file is no folder
        (f"video:{tmp_path}/none", f"{tmp_path}/none"),
        (f"voc:{tmp_path}/none@train", f"{tmp_path}/none/ImageSets/Main/train.txt"),
        (f"voc:{scenes}@val", f"{scenes}/ImageSets/Main/val.txt"),
        (f"coco:{tmp_path}/none.json@{images}", f"{tmp_path}/none.json"),
        (f"coco:{tmp_path}/a@b.json@{images}", f"{tmp_path}/a@b.json"),
        (f"coco:{json_file}@{tmp_path}/none", f"{tmp_path}/none"),
        (f"coco:{json_file}@{tmp_path}/no@ne", f"{tmp_path}/no@ne"),
        (f"coco:{images}@{images}", images),  # a folder is no file
    ]:
        with pytest.raises(UsageError) as caught:
            ensure_registered([name])
        text = str(caught.value)
        assert f"'{name}'" in text and re.search(
            rf" {re.escape(str(missing))}(; its splits are .*|, nor another split: .*|; it is a (file|folder))?\.$",
            text,
        ), text
        assert name not in DatasetCatalog.list()
    with pytest.raises(UsageError, match=r"/train.txt, nor another split: write the name of one image on each line, w"):
        ensure_registered([f"voc:{tmp_path}/none@train"])


def test_a_folder_without_a_scheme(tmp_path, monkeypatch):
    write_images(tmp_path / "my_photos", 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"'my_photos' is not registered; did you mean images:my_photos\?$"):
        ensure_registered(["my_photos"])


@pytest.mark.parametrize(
    "scheme, splits",
    [("voc", "test, train"), ("voc_seg", "test, train"), ("cityscapes", "train, val"),
     ("cityscapes_instance", "train, val")],
)  # fmt: skip
def test_a_split_that_is_not_there(layouts, scheme, splits):
    name = f"{scheme}:{layouts}@trian"
    with pytest.raises(UsageError, match=rf"'{name}': there is no f.* {layouts}/.*trian.*; its splits are {splits}\.$"):
        ensure_registered([name])


def test_lists_of_one_class_are_no_splits(tmp_path):
    for name in ("train.txt", "my_val.txt", "cat_train.txt", "._train.txt", "notes"):
        (tmp_path / name).touch()
    assert splits_in(str(tmp_path), ".txt") == ["my_val", "train"]
    assert splits_in(str(tmp_path / "none")) == []


def test_hidden_files_are_no_images(tmp_path, layouts):
    """macOS leaves ``._photo.jpg`` beside a photo on other systems' disks, and Jupyter copies in hidden folders."""
    root = tmp_path / "copy"
    shutil.copytree(layouts, root)
    schemes = ("images", "voc", "semseg", "voc_seg", "classes", "video", "cityscapes")
    addresses = {
        "images": f"images:{root}/JPEGImages",
        "semseg": f"semseg:{root}/JPEGImages@{root}/SegmentationClass",
        "classes": f"classes:{root}/train",
        "video": f"video:{root}/leftImg8bit/train",
    }
    names = [addresses.get(scheme, f"{scheme}:{root}@train") for scheme in schemes]
    before = [load_dicts_of(name) for name in names[:-1]]
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (root / "JPEGImages" / ".ipynb_checkpoints").mkdir()
    write_images(root / "JPEGImages" / ".ipynb_checkpoints", 1)
    for name, dicts in zip(names, before):
        assert load_dicts_of(name) == dicts
    with pytest.raises(UsageError, match=r"/\._.* is not an image \*_leftImg8bit.png: move it elsewhere"):
        ensure_registered(names[-1:])  # whose files detectron2 lists itself


def load_dicts_of(name):
    """Dicts of a data set that is registered anew."""
    expire_registered()
    return list(dicts_of(name))


def test_the_first_mistake_stops(tmp_path):
    write_images(tmp_path, 1)
    with pytest.raises(UsageError, match="nope"):
        ensure_registered([f"images:{tmp_path}", "nope:x"])


def test_an_at_sign_of_the_json_file_itself(tmp_path):
    (tmp_path / "a@1.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    name = f"coco:{tmp_path / 'a@1.json'}@{tmp_path}"
    ensure_registered([name])
    assert MetadataCatalog.get(name).json_file == str(tmp_path / "a@1.json")
    assert MetadataCatalog.get(name).image_root == str(tmp_path)


def test_schemes():
    assert list(SCHEMES) == [
        "images", "voc", "coco", "semseg", "voc_seg", "cityscapes", "cityscapes_instance", "classes",
        "video",
    ]  # fmt: skip


@pytest.mark.parametrize("folder", AWKWARD)
def test_segmentation_cityscapes_and_classes(tmp_path, layouts, folder):
    root = tmp_path / folder
    root.parent.mkdir(exist_ok=True)
    root.symlink_to(layouts)
    for scheme, split in (("voc_seg", "train"), ("cityscapes", "train"), ("cityscapes_instance", "val")):
        assert len(dicts_of(f"{scheme}:{root}@{split}")) == 2
    assert len(dicts_of(f"semseg:{root}/JPEGImages@{root}/SegmentationClass")) == 4
    assert {record["category_id"] for record in dicts_of(f"classes:{root}/train")} <= set(range(5))


def test_builtin_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # in which no data set is
    names = [f"voc_2012_sem_seg_{split}" for split in ("train", "val", "train_aug")]
    names += [f"bdd100k_sem_seg_{split}" for split in ("train", "val")]
    names += [f"coco_2017_train_{percent}pct" for percent in (1, 10)]
    ensure_registered([*names, "bdd100k_video_train"])
    counts = [len(MetadataCatalog.get(name).get("stuff_classes", [])) for name in names[:5]]
    assert counts == [21, 21, 21, 19, 19]
    for name in names[5:]:
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == MetadataCatalog.get("coco_2017_train").thing_classes
        assert metadata.json_file.endswith(f"coco/annotations/instances_train2017_{name.split('_')[-1]}.json")
    for name in names:
        with pytest.raises(UsageError, match="There is no|there is no"):
            DatasetCatalog.get(name)


def test_a_tilde_is_the_folder_of_the_user(scenes, monkeypatch):
    monkeypatch.setenv("HOME", str(scenes))
    assert len(dicts_of("images:~/JPEGImages")) == 4
    assert len(dicts_of("voc:~@train")) == 2
    assert len(dicts_of("coco:~/annotations/train.json@~/JPEGImages")) == 2


@pytest.mark.parametrize(
    "name, message",
    [
        ("images:{}/classes.txt", "there is no folder {}/classes.txt; it is a file"),
        ("coco:{}@{}", "there is no annotation file {}; it is a folder"),
    ],
)
def test_a_file_in_the_place_of_a_folder(scenes, name, message):
    with pytest.raises(UsageError) as error:
        ensure_registered([name.replace("{}", str(scenes))])
    assert message.replace("{}", str(scenes)) in str(error.value)
