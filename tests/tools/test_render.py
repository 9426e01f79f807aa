"""Rendered data sets: read by detectron2's loaders, complete or absent, never overwritten."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.datasets.coco import load_coco_json
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as rle
from rendering import files_of

import pixpro_d2
from pixpro_d2.data import ensure_registered
from pixpro_d2.extras.scenes import render_dataset as rendering
from pixpro_d2.extras.scenes import writers as scene_writers
from pixpro_d2.extras.scenes.render_dataset import RECORD, render_dataset
from pixpro_d2.extras.scenes.scene import CLASSES, describe_scene, render_scene
from pixpro_d2.tools import render
from pixpro_d2.utils.errors import UsageError

SMALL = {"train": 4, "test": 2, "size": 64, "seed": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("render") / "scenes"
    assert render_dataset(out, **SMALL) is True
    return out


def _load(dataset, split):
    coco = load_coco_json(str(dataset / "annotations" / f"{split}.json"), str(dataset / "JPEGImages"))
    return load_voc_instances(str(dataset), split, CLASSES), coco


def _xyxy(annotation):
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def test_the_folder_holds_these_files(dataset):
    stems = [f"{number:06d}" for number in range(6)]
    expected = {f"JPEGImages/{stem}.jpg" for stem in stems} | {f"Annotations/{stem}.xml" for stem in stems}
    expected |= {f"ImageSets/{task}/{split}.txt" for task in ("Main", "Segmentation") for split in ("train", "test")}
    expected |= {f"SegmentationClass/{stem}.png" for stem in stems}
    expected |= {f"annotations/{split}.json" for split in ("train", "test")} | {"classes.txt", "render.json"}
    assert set(files_of(dataset)) == expected
    assert [path.name for path in dataset.parent.iterdir()] == [dataset.name]


@pytest.mark.parametrize(("split", "numbers"), [("train", range(4)), ("test", range(4, 6))])
def test_both_layouts_hold_the_scenes(dataset, split, numbers):
    voc, coco = _load(dataset, split)
    assert [record["image_id"] for record in voc] == [f"{number:06d}" for number in numbers]
    assert [record["image_id"] for record in coco] == list(numbers)
    for number, from_voc, from_coco in zip(numbers, voc, coco, strict=True):
        scene = describe_scene(SMALL["seed"], number, 64, 64)
        image, masks = render_scene(scene)
        boxes = []
        for mask in masks:
            ys, xs = np.nonzero(mask)
            boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        for record in (from_voc, from_coco):
            assert (record["height"], record["width"]) == (64, 64)
            assert Path(record["file_name"]) == dataset / "JPEGImages" / f"{number:06d}.jpg"
            assert [_xyxy(annotation) for annotation in record["annotations"]] == boxes
        categories = [obj.category for obj in scene.objects]
        assert [annotation["category_id"] for annotation in from_voc["annotations"]] == categories
        # Without a data set's name, detectron2 gives the ids of the file, which start at 1.
        assert [annotation["category_id"] - 1 for annotation in from_coco["annotations"]] == categories
        for annotation, mask in zip(from_coco["annotations"], masks, strict=True):
            np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), mask)
        stored = np.asarray(Image.open(from_voc["file_name"])).astype(int)
        assert stored.shape == image.shape
        assert np.abs(stored - image).mean() < 12  # What JPEG loses.


def test_coco_ids_and_areas(dataset):
    content = json.loads((dataset / "annotations" / "train.json").read_text())
    assert [(c["id"], c["name"]) for c in content["categories"]] == list(enumerate(CLASSES, start=1))
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    for annotation in content["annotations"]:
        assert annotation["area"] == rle.area(annotation["segmentation"])
        assert annotation["iscrowd"] == 0


def test_a_shorter_render_is_the_start_of_a_longer_one(dataset, tmp_path):
    render_dataset(tmp_path / "short", train=2, test=0, size=64, seed=3, layouts=["voc"])
    short, long = files_of(tmp_path / "short"), files_of(dataset)
    for name in ("JPEGImages/000001.jpg", "Annotations/000001.xml"):
        assert short[name] == long[name]
    assert not any(name.startswith("annotations/") or "test" in name for name in short)


def test_the_same_call_again_does_nothing(dataset, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    monkeypatch.setattr(rendering, "render_scene", None)  # Any use would fail.
    assert render_dataset(dataset, **SMALL, layouts=["coco", "voc", "coco"]) is False
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 4}, {"size": 65}, {"train": 5}, {"layouts": ["coco"]}])
def test_other_options_are_refused(dataset, change):
    before = files_of(dataset)
    with pytest.raises(UsageError, match="exists"):
        render_dataset(dataset, **{**SMALL, **change})
    assert files_of(dataset) == before


def test_a_foreign_folder_or_file_is_refused_and_an_empty_folder_taken(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="mine"):
        render_dataset(folder, **SMALL)
    with pytest.raises(UsageError, match="note"):
        render_dataset(folder / "note.txt", **SMALL)
    assert files_of(folder) == {"note.txt": b"mine"}
    (folder / "note.txt").unlink()
    assert render_dataset(folder, train=0, test=2, size=32) is True
    assert (folder / "ImageSets" / "Main" / "test.txt").read_text() == "000000\n000001\n"


def test_a_render_that_fails_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def fail_on_third(scene):
        calls.append(scene)
        if len(calls) == 3:
            raise RuntimeError("disk on fire")
        return render_scene(scene)

    monkeypatch.setattr(rendering, "render_scene", fail_on_third)
    with pytest.raises(RuntimeError, match="disk on fire"):
        render_dataset(tmp_path / "deep" / "scenes", **SMALL)
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": -1}, "negative"),
        ({"train": 0, "test": 0}, "zero"),
        ({"seed": -1}, "negative"),
        ({"size": 16}, "32 x 32"),
        ({"layouts": []}, "layouts"),
        ({"layouts": ["voc", "kitti"]}, "kitti"),
        ({"test": 1}, "single image"),
    ],
)
def test_options_that_cannot_be_met_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        render_dataset(tmp_path / "scenes", **{**SMALL, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_layout_is_one_function(tmp_path, monkeypatch):
    def write_names(root, split, samples):
        with open(root / f"{split}.names", "w") as file:
            for sample in samples:
                file.write(f"{sample.stem} {len(sample.masks)}\n")
                yield sample

    monkeypatch.setitem(scene_writers.WRITERS, "names", write_names)
    render_dataset(tmp_path / "scenes", train=2, test=0, size=32, layouts=["names"])
    objects = [len(describe_scene(0, number, 32, 32).objects) for number in range(2)]
    expected = "".join(f"{number:06d} {count}\n" for number, count in enumerate(objects))
    assert (tmp_path / "scenes" / "train.names").read_text() == expected


def test_main_prints_names_that_load(tmp_path, capsys):
    argv = [str(tmp_path / "scenes"), "--train", "2", "--test", "0", "--size", "32"]
    render.main(argv)
    printed = capsys.readouterr().out
    assert "wrote 2 train and 0 test images" in printed
    names = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    assert [name.split(":")[0] for name in names] == ["voc", "voc_seg", "coco"]
    ensure_registered(names)
    assert len(DatasetCatalog.get(names.pop(1))) == 2
    for name in names:
        assert [len(record["annotations"]) for record in DatasetCatalog.get(name)] == [
            len(describe_scene(0, number, 32, 32).objects) for number in range(2)
        ]
    render.main(argv)
    assert "nothing to do" in capsys.readouterr().out


def test_main_prints_names_of_all_layouts(tmp_path, capsys):
    argv = [
        str(tmp_path / "scenes"),
        "--train",
        "0",
        "--test",
        "2",
        "--size",
        "64",
        "--layout",
        "cityscapes",
        "classes",
    ]
    render.main(argv)
    names = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    scenes = tmp_path / "scenes"
    assert names == [f"cityscapes:{scenes}@val", f"cityscapes_instance:{scenes}@val", f"classes:{scenes}/test"]
    ensure_registered(names)
    assert [len(DatasetCatalog.get(name)) for name in names[:2]] == [2, 2]
    assert not (scenes / "JPEGImages").exists()


def test_an_older_render_is_not_taken_for_a_current_one(tmp_path):
    render_dataset(tmp_path / "scenes", train=2, test=0, size=32)
    record = tmp_path / "scenes" / RECORD
    options = json.loads(record.read_text())
    del options["format"]  # as written before the layouts had semantic labels
    record.write_text(json.dumps(options))
    with pytest.raises(UsageError, match="exists"):
        render_dataset(tmp_path / "scenes", train=2, test=0, size=32)


def test_the_command_refuses_in_one_line(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    command = [sys.executable, "-m", "pixpro_d2.tools.render", str(tmp_path)]
    root = Path(pixpro_d2.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ") and str(tmp_path) in lines[-1]
    assert "Traceback" not in done.stderr


def test_plain_scenes_are_the_same_scenes_without_clutter(tmp_path):
    render.main([str(tmp_path / "plain"), "--train", "2", "--test", "0", "--size", "64", "--seed", "3", "--plain"])
    render_dataset(tmp_path / "cluttered", train=2, test=0, size=64, seed=3)
    names = ("Annotations/000001.xml", "JPEGImages/000001.jpg")
    same = [(tmp_path / "plain" / n).read_bytes() == (tmp_path / "cluttered" / n).read_bytes() for n in names]
    assert same == [True, False]
    plain, cluttered = (np.asarray(Image.open(tmp_path / k / names[1]), float) for k in ("plain", "cluttered"))
    edges = [np.abs(np.diff(x, axis=0)).mean() for x in (plain, cluttered)]
    assert edges[0] < edges[1]
