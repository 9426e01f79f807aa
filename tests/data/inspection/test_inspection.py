"""What the inspection of a data set finds, and what it lets pass."""

import numpy as np
import pytest
from data_helpers import noise, write_images
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathHandler, PathManager
from PIL import Image

from pixpro_d2.data.datasets.semseg import read_label
from pixpro_d2.data.downstream.tasks import BOXES, CATEGORIES, LABEL_MAPS
from pixpro_d2.data.inspection.records import inspect
from pixpro_d2.data.io.reader import UnreadableImage, read_image


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", 4, (12, 16))


def _boxes(path, *boxes, category=0):
    annotations = [{"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category} for box in boxes]
    return {"file_name": str(path), "width": 16, "height": 12, "annotations": annotations}


def _detection(*dicts, sample=None):
    return inspect(list(dicts), Metadata(thing_classes=["a", "b"]), sample)


def test_good_boxes(images):
    report = _detection(_boxes(images[0], [0, 0, 16, 12], [1, 2, 3, 4]), _boxes(images[1], [0, 0, 9, 9], category=1))
    assert (report.labels, report.classes, report.images, report.opened) == (BOXES, ["a", "b"], 2, 2)
    assert report.problems == [] and dict(report.counts) == {0: 2, 1: 1} and report.sizes == [(16, 12)] * 2


@pytest.mark.parametrize("box", [[-0.5, 0, 4, 4], [3, 3, 17, 13]])
def test_a_pixel_out_of_the_image_passes(images, box):
    assert _detection(_boxes(images[0], box)).problems == []


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([-2, 0, 4, 4], "reaches out of the image, which is 16 x 12"),
        ([0, 0, 4, 14], "reaches out"),
        ([4, 0, 4, 4], "empty"),
        ([4, 6, 8, 5], "empty"),
    ],
)
def test_bad_boxes(images, box, problem):
    (found,) = _detection(_boxes(images[0], [0, 0, 4, 4], box)).problems
    assert problem in found and str(images[0]) in found and str([float(c) for c in box]) in found


def test_other_box_modes(images):
    record = _boxes(images[0], [10, 4, 6, 8])
    record["annotations"][0]["bbox_mode"] = BoxMode.XYWH_ABS
    assert _detection(record).problems == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bbox": None}, "has no bbox"),
        ({"bbox": [0, 0, 4]}, "has a bbox of 3 numbers"),
        ({"bbox": [0, 0, 4, float("nan")]}, "has a bbox that is not finite"),
        ({"bbox_mode": None}, "has no bbox_mode"),
        ({"category_id": None}, "has no category_id"),
    ],
)
def test_objects_without_what_training_needs(images, change, problem):
    record = _boxes(images[0], [0, 0, 4, 4], [0, 0, 4, 4])
    record["annotations"][1].update(change)
    report = _detection(record)
    assert report.problems == [f"an object of {images[0]} {problem}"] and report.counts == {0: 1}


SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]
NESTED = [[[1, 1], [5, 1], [5, 5], [1, 5]]]
RUNS = {"size": [12, 16], "counts": [0, 20, 172]}
NO_MASK = "an object of {} has no mask: add its segmentation, or set MODEL.MASK_ON False"


@pytest.mark.parametrize(
    ("shapes", "masks", "problem"),
    [
        ([SQUARE, SQUARE], "polygon", ""),
        ([SQUARE, RUNS], "bitmask", ""),
        ([SQUARE, RUNS], None, ""),
        ([None, None], None, ""),
        ([SQUARE, None], "", ""),
        ([SQUARE, NESTED], "", ""),  # boxes alone are read
        ([SQUARE, []], None, NO_MASK),
        ([SQUARE, None], "bitmask", NO_MASK),
        ([None, None], "polygon", NO_MASK),
        ([SQUARE, RUNS], "polygon", "an object of {} has its mask as a bitmap: set INPUT.MASK_FORMAT bitmask"),
        ([SQUARE, NESTED], None, "an object of {} has a segmentation that is no list of polygons [x, y, x, y, ...]"),
        ([SQUARE, [1, 2, 3]], None, "an object of {} has a segmentation that is no list of polygons"),
        ([SQUARE, [[1, 1, 5, 5]]], None, "an object of {} has polygons of fewer than three points only"),
        ([SQUARE, [[1, 1, 5, None, 5, 5]]], None, "an object of {} has a segmentation without finite coordinates"),
        ([SQUARE, {**RUNS, "size": [16, 12]}], None, "an object of {} has a mask of size [16, 12], but"),
    ],
)
def test_masks(images, shapes, masks, problem):
    record = _boxes(images[0], *([0, 0, 4, 4] for _ in shapes))
    for annotation, shape in zip(record["annotations"], shapes):
        annotation.update({"segmentation": shape} if shape is not None else {})
    problems = inspect([record], Metadata(thing_classes=["a", "b"]), 0, masks=masks).problems
    assert len(problems) == bool(problem) and all(p.startswith(problem.format(images[0])) for p in problems)


def test_a_crowd_needs_no_mask(images):
    record = _boxes(images[0], [0, 0, 4, 4])
    record["annotations"][0]["iscrowd"] = 1
    assert inspect([record], Metadata(thing_classes=["a"]), 0, masks="polygon").problems == []


@pytest.mark.parametrize(("crowds", "objects", "is_told"), [(1, 20, False), (11, 120, False), (11, 20, True)])
def test_many_crowds_are_single_objects(images, crowds, objects, is_told):
    """As CVAT writes brush masks; training skips crowds, of which COCO has 1 %."""
    record = _boxes(images[0], *[[0, 0, 4, 4]] * objects)
    for annotation in record["annotations"][:crowds]:
        annotation["iscrowd"] = 1
    expected = [
        f"{crowds} of {objects} objects have iscrowd 1, and training skips them: set iscrowd 0 where an object is a "
        "single one, as CVAT's brush masks are"
    ]
    assert _detection(record).problems == expected * is_told


def test_names_of_classes_that_look_the_same(images):
    metadata = Metadata(thing_classes=["cell", " cell", "dot", "Cell", "dots"])
    (found,) = inspect([_boxes(images[0], [0, 0, 4, 4])], metadata).problems
    assert found == "classes ['cell', ' cell', 'Cell'] differ by case or spaces only"


def test_class_out_of_range(images):
    (found,) = _detection(_boxes(images[0], [0, 0, 4, 4], category=2)).problems
    assert found == f"{images[0]} has class 2, but the classes are 0 to 1"


def test_files(images, tmp_path):
    images[1].write_bytes(images[1].read_bytes()[:50])
    wrong_size = {**_boxes(images[2]), "width": 12, "height": 16}
    report = _detection(_boxes(images[0]), _boxes(images[1]), wrong_size, _boxes(tmp_path / "none.png"))
    assert len(report.problems) == 3
    assert f"unreadable image {images[1]}" in report.problems[0]
    assert report.problems[1].startswith(f"{images[2]} is 16 x 12 pixels, its annotation says 12 x 16: if an EXIF")
    assert report.problems[2] == f"missing file {tmp_path}/none.png"


def test_long_images_are_reported(tmp_path):
    """Few random crops fit into them."""
    sizes = [(10, 50), *[(20, 20)] * 18]
    for i, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    dicts = [{"file_name": str(tmp_path / f"{i}.png")} for i in range(19)]
    (problem,) = inspect(dicts, Metadata()).problems
    assert problem.startswith(
        f"1 of 19 opened images are 5 : 1 or longer, for example {tmp_path}/0.png (10 x 50), and many"
    )
    Image.new("RGB", (10, 49)).save(tmp_path / "0.png")
    assert not inspect(dicts, Metadata()).problems
    Image.new("RGB", (10, 50)).save(tmp_path / "0.png")
    assert not inspect([*dicts, dicts[1], dicts[2]], Metadata()).problems  # of one in 21 images


def test_a_sample_opens_some_files_but_looks_for_all(images, tmp_path):
    Image.open(images[1]).save(images[1], format="JPEG")
    images[1].write_bytes(images[1].read_bytes()[:-100])  # only its header is looked at
    dicts = [_boxes(path, [0, 0, 4, 4]) for path in images]
    report = _detection(*dicts, _boxes(tmp_path / "none.png"), sample=3)  # every second one
    assert report.opened == 2 and report.sizes == [(16, 12)] * 2 and report.counts[0] == 4
    assert report.problems == [f"missing file {tmp_path}/none.png"]


def test_segmentation(images, tmp_path):
    dicts = []
    for path, label in zip(images, (np.zeros((12, 16)), np.full((12, 16), 255), np.ones((12, 12)), None)):
        file = tmp_path / f"{path.stem}_label.png"
        if label is not None:
            Image.fromarray(label.astype(np.uint8)).save(file)
        dicts.append({"file_name": str(path), "sem_seg_file_name": str(file)})
    Image.fromarray(np.full((12, 16), 7, dtype=np.uint8)).save(dicts[0]["sem_seg_file_name"])
    report = inspect(dicts, Metadata(stuff_classes=["a", "b"], ignore_label=255))
    assert report.labels is LABEL_MAPS and dict(report.counts) == {7: 192, 1: 144}
    assert report.problems == [
        f"{dicts[0]['sem_seg_file_name']} has class 7, but the classes are 0 to 1",
        f"{dicts[2]['sem_seg_file_name']} is 12 x 12 pixels, its image 16 x 12",
        f"missing file {dicts[3]['sem_seg_file_name']}",
    ]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 255], "all pixels of all label maps are 0 or 255, and 255 means that a pixel does not count"),
        ([0, 0], "all pixels of all label maps have class 0"),
        ([1, 255], "all pixels of all label maps are 1 or 255"),
        ([0, 1], ""),
        ([255, 255], ""),  # of which loading the data set tells
    ],
)
def test_labels_of_one_class_alone(images, tmp_path, labels, problem):
    dicts = []
    for path, label in zip(images, labels):
        Image.new("L", (16, 12), label).save(tmp_path / path.name)
        dicts.append({"file_name": str(path), "sem_seg_file_name": str(tmp_path / path.name)})
    report = inspect(dicts, Metadata(stuff_classes=["a", "b"]), sample=0)
    assert len(report.errors) == bool(problem) and all(error.startswith(problem) for error in report.errors)
    assert report.opened == 0 and report.unsound == set()


def test_a_colour_picture_is_no_label(images):
    dicts = [{"file_name": str(images[0]), "sem_seg_file_name": str(images[0])}]
    (found,) = inspect(dicts, Metadata(stuff_classes=["a"], ignore_label=255)).problems
    assert "mode RGB" in found


def test_classification_and_images_without_labels(images):
    dicts = [{"file_name": str(path), "category_id": i} for i, path in enumerate(images)]
    report = inspect(dicts, Metadata(classes=["a", "b", "c"]))
    assert report.labels is CATEGORIES and report.counts == {0: 1, 1: 1, 2: 1, 3: 1}
    assert report.problems == [f"{images[3]} has class 3, but the classes are 0 to 2"]
    report = inspect([{"file_name": str(path)} for path in images], Metadata())
    assert (report.labels, report.problems, len(report.sizes)) == (None, [], 4)


class _Store(PathHandler):
    """Addresses store://NAME, which are files of a folder."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def _get_supported_prefixes(self):
        return ["store://"]

    def _open(self, path, mode="r", **kwargs):
        return open(self._folder / path.removeprefix("store://"), mode)

    def _isfile(self, path, **kwargs):
        return (self._folder / path.removeprefix("store://")).is_file()


def test_paths_and_addresses_that_detectron2_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(PathManager, "_path_handlers", PathManager._path_handlers.copy())
    PathManager.register_handler(_Store(tmp_path))
    rgb, grey = noise(0, 6, 5), noise(1, 6, 5, 0)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    Image.fromarray(grey).save(tmp_path / "labels.png")
    for place in (tmp_path, "store:/"):
        image, labels = (place / name if place == tmp_path else f"{place}/{name}" for name in ("a.png", "labels.png"))
        np.testing.assert_array_equal(read_image(image), rgb)
        np.testing.assert_array_equal(read_label(labels), grey)
        record = {"file_name": image, "sem_seg_file_name": labels}
        assert inspect([record], Metadata(stuff_classes=[str(i) for i in range(256)])).errors == []
    with pytest.raises(UnreadableImage, match="store://none.png"):
        read_image("store://none.png")
    assert inspect([{"file_name": "store://none.png"}], Metadata()).errors == ["missing file store://none.png"]
