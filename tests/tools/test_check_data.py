"""check_data on every kind of data set."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from annotation_helpers import coco_object, write_coco, write_image, write_label, write_sem_seg
from archive_helpers import WRITERS, write_shards
from data_helpers import noise, write_images
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from rendering import render_once

from pixpro_d2.data.datasets.imagenet import load_imagenet
from pixpro_d2.extras import data_check
from pixpro_d2.extras.scenes.render_dataset import dataset_names
from pixpro_d2.extras.scenes.render_video import render_videos
from pixpro_d2.tools import check_data

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LAYOUTS = ["voc", "coco", "cityscapes", "classes"]

scenes = render_once(train=3, test=2, size=64, seed=2, layouts=LAYOUTS)


def _check(capsys, *argv):
    """Exit code and what was printed."""
    with pytest.raises(SystemExit) as caught:
        check_data.main([str(arg) for arg in argv])
    return caught.value.code, capsys.readouterr().out


# scheme -> its line about the classes
EXPECTED = {
    "voc": "detection, 5 classes; runs set MODEL.ROI_HEADS.NUM_CLASSES",
    "voc_seg": "segmentation, 6 classes; runs set MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "coco": "detection, 5 classes; runs set MODEL.ROI_HEADS.NUM_CLASSES",
    "cityscapes": "segmentation, 19 classes; runs set MODEL.SEM_SEG_HEAD.NUM_CLASSES",
    "cityscapes_instance": "detection, 8 classes; runs set MODEL.ROI_HEADS.NUM_CLASSES",
    "classes": "classification, 5 classes; runs set MODEL.CLASSIFIER.NUM_CLASSES",
}


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_rendered_data_have_no_problems(scenes, tmp_path, capsys, number):
    name = dataset_names(scenes, "train", LAYOUTS)[number]
    code, printed = _check(capsys, name, "--pictures", tmp_path / "pictures")
    assert code == 0 and printed.endswith("no problems found\n")
    assert EXPECTED[name.partition(":")[0]] in printed
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == (3 if number < 5 else min(4, len(list((scenes / "train").rglob("*.jpg")))))
    for path in pictures:
        assert f"wrote {path}" in printed
        assert len(np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0)) > 100  # a picture of something


def test_counts_are_those_of_the_annotations(scenes, capsys):
    _, printed = _check(capsys, f"voc:{scenes}@train")
    rows = {words[1]: int(words[2]) for words in map(str.split, printed.splitlines()) if words[-1:] == ["%"]}
    xml = "".join((scenes / "Annotations" / f"{i:06d}.xml").read_text() for i in range(3))
    assert rows == {name: xml.count(f"<name>{name}</name>") for name in rows} and sum(rows.values()) > 5


def test_problems_are_listed_and_fail(tmp_path, capsys):
    paths = write_images(tmp_path / "data" / "a", 15)
    for path in paths[:12]:
        path.write_bytes(b"no image")
    file = tmp_path / "problems.txt"
    code, printed = _check(capsys, f"classes:{tmp_path}/data", "--problems", file)
    assert code == 1
    lines = printed.splitlines()
    assert [line.startswith(f"problem: unreadable image {tmp_path}/data/a/0") for line in lines].count(True) == 10
    assert lines[-3:] == ["... and 2 more problems; --problems FILE lists all", f"wrote {file}", "12 problems"]
    listed = file.read_text().splitlines()
    assert len(listed) == 12 and all(str(path) in line for path, line in zip(paths, listed))


def test_annotations_of_no_image_are_a_problem(tmp_path, capsys):
    name = write_coco(tmp_path, [coco_object(1, [5, 5, 9, 9]), coco_object(2, [5, 5, 9, 9], image_id=7)])
    code, printed = _check(capsys, name)
    assert code == 1 and "problem: 1 annotations have an image_id that images does not list" in printed


def test_names_of_any_kind(tmp_path, capsys):
    """A problem and a picture of a file whose name is no text, and a picture of a file of the longest name."""
    out = tmp_path / "out"
    out.mkdir()
    folder = tmp_path / "images"
    (image,) = write_images(folder, 1)
    image.rename(folder / ("\u00e4" * 125 + ".jpeg"))  # 255 bytes
    shutil.copy(next(folder.iterdir()), os.fsencode(folder) + b"/a\xff.png")
    (folder / os.fsdecode(b"b\xff.png")).write_bytes(b"no image")
    code, printed = _check(capsys, folder, "--problems", out / "problems.txt", "--pictures", out)
    assert code == 1 and "problem: unreadable image " in printed and "/b\\udcff.png: not an image" in printed
    assert "/b\\udcff.png: not an image" in (out / "problems.txt").read_text(encoding="utf-8")
    assert printed.count("wrote ") == len(list(out.iterdir())) == 3


def test_the_list_of_problems_needs_its_folder(tmp_path):
    write_images(tmp_path / "images", 1)
    with pytest.raises(SystemExit, match="error: .*none"):
        check_data.main([f"images:{tmp_path}/images", "--problems", str(tmp_path / "none" / "problems.txt")])


def test_only_all_opens_every_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data_check, "SAMPLE", 3)
    paths = write_images(tmp_path / "a", 6)
    paths[1].write_bytes(b"no image")
    code, printed = _check(capsys, f"images:{tmp_path}")
    assert code == 0 and "6 images, 3 of them opened" in printed and "pre-training only" in printed
    code, printed = _check(capsys, f"images:{tmp_path}", "--all")
    assert code == 1 and "6 images, 5 of them opened" in printed
    assert "  width: 16 / 16 / 16 pixels" in printed and "  height: 12 / 12 / 12 pixels" in printed


def test_a_long_list_of_classes_is_cut(tmp_path, capsys):
    for i in range(120):
        write_images(tmp_path / f"c{i:03d}", 2 if i == 60 else 1)
    _, printed = _check(capsys, f"classes:{tmp_path}")
    assert "120 classes" in printed and "the 10 most frequent classes and the 10 rarest" in printed
    rows = [line.split() for line in printed.splitlines() if line.endswith("%")]
    assert len(rows) == 20 and rows[0][:3] == ["60", "c060", "2"]


def test_pictures_of_images_whose_labels_fit_none(tmp_path, capsys):
    name = write_sem_seg(tmp_path, (0, 1), images=7)
    write_image(tmp_path / "images/1.jpg", (99, 40))  # of another size than its label
    write_label(tmp_path / "labels/2.png", (0, 7))  # a class that does not exist
    (tmp_path / "labels/classes.txt").write_text("a\nb\n")
    (tmp_path / "images/3.jpg").write_bytes(b"no image")
    code, printed = _check(capsys, name, "--pictures", tmp_path / "out")
    assert code == 1 and printed.count("problem: ") == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0_0.png", "1_4.png", "2_5.png", "3_6.png"]


def test_a_page_behind_the_first_may_be_damaged(tmp_path, capsys):
    first, second = (Image.fromarray(noise(i, 24, 16, 0)) for i in range(2))
    first.save(tmp_path / "whole.gif", save_all=True, append_images=[second])
    content = (tmp_path / "whole.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(content[: int(0.7 * len(content))])
    code, printed = _check(capsys, tmp_path)
    assert code == 0 and "pages: 2 files" in printed


def test_the_limit_of_pixels_is_that_of_the_training(tmp_path, capsys):
    write_images(tmp_path, 2, (12, 16))
    assert _check(capsys, tmp_path, "--max-image-pixels", 12 * 16)[0] == 0
    code, printed = _check(capsys, tmp_path, "--max-image-pixels", 12 * 16 - 1)
    assert code == 1 and "DATALOADER.MAX_IMAGE_PIXELS" in printed
    assert _check(capsys, tmp_path)[0] == 0


def test_images_in_an_archive(tmp_path, capsys):
    (path,) = write_images(tmp_path, 1)
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.write(path, "x/000.png")
    (tmp_path / "val_map.txt").write_text("x/000.png\t0\n")
    DatasetCatalog.register(str(tmp_path), lambda: load_imagenet(str(tmp_path), "val")[0])
    MetadataCatalog.get(str(tmp_path)).classes = ["0"]
    assert _check(capsys, tmp_path)[0] == 0


def test_a_folder_and_an_archive_alone_are_of_images(tmp_path, capsys, monkeypatch):
    write_images(tmp_path / "images", 2)
    WRITERS["zip"](tmp_path / "a.zip", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    for name in ("images", "a.zip"):
        assert _check(capsys, name)[1].startswith(f"images:{name}: 2 images, 2 of them opened\n")


@pytest.mark.parametrize("kind", ["zip", "tar", "shards"])
def test_archives_of_images(tmp_path, capsys, kind):
    paths = write_images(tmp_path / "images", 6)
    paths[4].write_bytes(b"This is no picture.")
    if kind == "shards":
        name = f"images:{write_shards(tmp_path / 'shards', tmp_path / 'images', 2)}"
    else:
        name = f"images:{WRITERS[kind](tmp_path / f'a.{kind}', tmp_path / 'images')}"
    code, printed = _check(capsys, name, "--all", "--pictures", tmp_path / "pictures")
    assert code == 1 and printed.startswith(f"{name}: 6 images, 5 of them opened\n")
    (problem,) = [line for line in printed.splitlines() if line.startswith("problem: ")]
    assert "unreadable image" in problem and "004.png" in problem and len(list((tmp_path / "pictures").iterdir())) == 4


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    out = tmp_path_factory.mktemp("check_video")
    render_videos(out, 3, frames=4, size=(48, 64), flow_scale=8, labelled=0, arrays=False)
    return out


def test_videos(videos, tmp_path, capsys):
    name = f"video:{videos / 'frames'}"
    code, printed = _check(capsys, name, "--pictures", tmp_path)
    assert code == 0 and printed.splitlines()[:5] == [
        f"{name}: 3 videos of 12 frames, 6 of them opened",
        "  length: 4 / 4 / 4 frames (min/median/max); INPUT.PIXPRO.N_FRAMES above 4 skips 000000",
        "  width: 64 / 64 / 64 pixels (min/median/max)",
        "  height: 48 / 48 / 48 pixels (min/median/max)",
        "  no labels: for pre-training only",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}_00000{i}.png" for i in range(3)]
    code, printed = _check(capsys, name, "--all", "--flow", videos / "flow")
    assert code == 0 and "12 frames, 12 of them opened" in printed and "  optical flow: of 3 videos\n" in printed


def test_videos_without_their_flow(videos, tmp_path, capsys):
    shutil.copytree(videos / "flow" / "000001", tmp_path / "000001")
    code, printed = _check(capsys, f"video:{videos / 'frames'}", "--flow", tmp_path)
    assert code == 1 and "  optical flow: of 1 videos\n" in printed
    for video in ("000000", "000002"):
        assert f"problem: There is no file of optical flow {tmp_path}/{video}/forward.npy: make it with" in printed
    assert printed.endswith("2 problems\n")


def test_flow_that_cannot_be_checked(videos, scenes, tmp_path):
    with pytest.raises(SystemExit, match=f"^error: There is no folder of optical flow {tmp_path}/none"):
        check_data.main([f"video:{videos / 'frames'}", "--flow", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="^error: --flow is for videos, but data set 'voc:.*' has images.$"):
        check_data.main([f"voc:{scenes}@train", "--flow", str(videos / "flow")])


@pytest.mark.parametrize("name", ["nope", "voc:/none@train", "coco_2017_val", "imagenet_val"])
def test_a_data_set_that_cannot_be_loaded(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^error: .*\\.$"):
        check_data.main([name])


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside the checkout")
@pytest.mark.parametrize("name", [f"voc:{SHARED}/bccd@trainval", f"classes:{SHARED}/imagenet_samples/train"])
def test_real_data(name, tmp_path, capsys):
    code, printed = _check(capsys, name, "--pictures", tmp_path)
    assert code == 0 and len(list(tmp_path.iterdir())) == 4
    assert "RBC" in printed or "1000 classes" in printed
