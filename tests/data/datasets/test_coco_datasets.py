"""COCO annotation files that are broken in one way or another."""

import json

import pytest
from data_helpers import dicts_of, logged
from detectron2.data import DatasetCatalog, MetadataCatalog

from pixpro_d2.evaluation.checks import evaluation_warnings
from pixpro_d2.utils.errors import UsageError

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
GOOD = {"images": [IMAGE], "annotations": [BOX], "categories": [{"id": 1, "name": "x"}]}


def _load(folder, text):
    (folder / "a.json").write_text(text)
    name = f"coco:{folder}/a.json@{folder}"
    return name, dicts_of(name)


def test_a_good_file(tmp_path):
    name, (record,) = _load(tmp_path, json.dumps(GOOD))
    assert record["file_name"] == f"{tmp_path}/a.jpg" and record["annotations"][0]["category_id"] == 0
    assert MetadataCatalog.get(name).thing_classes == ["x"]


def test_numbers_of_other_kinds_are_read(tmp_path):
    """detectron2 skips objects whose iscrowd is not the number 0, and fails at the masks of images of 8.0 pixels."""
    objects = [{**BOX, "id": i, "iscrowd": value} for i, value in enumerate((0, None, "", "0", 1, "1"), start=1)]
    content = {**GOOD, "images": [{**IMAGE, "width": 8.0, "height": 9.0}], "annotations": objects}
    _, (record,) = _load(tmp_path, json.dumps(content))
    assert (repr(record["width"]), repr(record["height"])) == ("8", "9")
    assert [annotation["iscrowd"] for annotation in record["annotations"]] == [0, 0, 0, 0, 1, 1]


def test_names_that_are_not_ascii(tmp_path):
    folder = tmp_path / "фото"
    folder.mkdir()
    content = {**GOOD, "images": [{**IMAGE, "file_name": "日本.jpg"}], "categories": [{"id": 1, "name": "Tür"}]}
    name, (record,) = _load(folder, json.dumps(content, ensure_ascii=False))
    assert record["file_name"] == f"{folder}/日本.jpg" and MetadataCatalog.get(name).thing_classes == ["Tür"]


def test_a_byte_order_mark(tmp_path):
    """Windows writes it, and pycocotools refuses it."""
    with pytest.raises(UsageError, match="a.json .*begins with a byte-order mark: save it as UTF-8 without this mark"):
        _load(tmp_path, "\ufeff" + json.dumps(GOOD))


def test_annotations_of_no_image_are_counted(tmp_path):
    objects = [{**BOX, "id": i, "image_id": image} for i, image in enumerate((1, 1.0, 2, "x", [1]), start=1)]
    with logged("pixpro_d2.data.datasets.coco") as messages:
        _, (record,) = _load(tmp_path, json.dumps({**GOOD, "annotations": objects[:-1]}))
    expected = "2 annotations have an image_id that images does not list, and are skipped"
    assert len(record["annotations"]) == 2 and messages == [f"{tmp_path}/a.json: {expected}."]
    assert evaluation_warnings(f"coco:{tmp_path}/a.json@{tmp_path}") == [expected]
    (tmp_path / "a.json").write_text(json.dumps({**GOOD, "annotations": objects}))
    with pytest.raises(UsageError, match="unhashable"):
        DatasetCatalog.get(f"coco:{tmp_path}/a.json@{tmp_path}")


@pytest.mark.parametrize("annotations", [{"annotations": []}, {}])
def test_no_annotations_at_all_is_a_data_set_of_background(tmp_path, annotations):
    content = {key: GOOD[key] for key in ("images", "categories")} | annotations
    assert _load(tmp_path, json.dumps(content))[1][0]["annotations"] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSONDecodeError"),
        ('{"images": [', "JSONDecodeError"),
        ("[]", "no images, no categories"),
        ("3", "no images, no categories"),
        *((json.dumps({**GOOD, key: found}), f"no {key}") for key in ("images", "categories") for found in (None, [])),
        (json.dumps({**GOOD, "annotations": None}), "no list of annotations"),
        (json.dumps({**GOOD, "annotations": [{**BOX, "category_id": 9}]}), "annotation 1 of image 1 has category_id 9"),
        (json.dumps({**GOOD, "annotations": [BOX, BOX]}), "not unique"),
        (json.dumps({**GOOD, "annotations": [{**BOX, "id": None}]}), "annotation of image 1 has no id"),
        (json.dumps({**GOOD, "images": [IMAGE, IMAGE]}), "images has the id 1 twice"),
        (json.dumps({**GOOD, "categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]}), "categories has the id"),
        (json.dumps({**GOOD, "images": [{"id": 1}]}), "file_name"),
        ("[" * 100_000, "RecursionError"),
        *(
            (json.dumps({**GOOD, "images": [{**IMAGE, "width": width}]}), "image 1")
            for width in ("8", None, 0, [8], 8.5)
        ),
        (
            json.dumps({**GOOD, "images": [{**IMAGE, "width": "8"}]}),
            "image 1 has the width '8', which is no whole number",
        ),
        (json.dumps({**GOOD, "categories": [{"id": 1, "name": 7}]}), "category 1 has the name 7, which is no text"),
        *(
            (json.dumps({**GOOD, "annotations": [{**BOX, **values}]}), "annotation 1 of image 1 has ")
            for values in (
                {"bbox": [0, 0, 4]},
                {"bbox": [0, 0, 4, None]},
                {"iscrowd": 2},
                {"iscrowd": "no"},
                {"bbox": [0, 0, 4, "4"]},
                {"bbox": [0, 0, 4, float("nan")]},
                {"bbox": {"x": 0}},
                {"bbox": None},
                {"bbox": []},
                {"category_id": None},
                {"segmentation": [[[0, 0], [4, 0], [4, 4]]]},  # detectron2 leaves the object out
                {"segmentation": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 3], [0, 2]]]},  # or reads it, to fail later
                {"segmentation": [[0, 0, 4, 4]]},
                {"segmentation": [0, 0, 4, 0, 4, 4]},
                {"segmentation": "0 0 4 0 4 4"},
                {"category_id": [1]},
                {"image_id": "1"},
                {"segmentation": [[0, 0, 4, 0, 4, "4"]]},
                {"segmentation": [[0, 0, 4, 0, 4, float("inf")]]},
            )
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        _load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/a.json is not a usable COCO annotation file")
    assert "\n" not in str(caught.value)


def test_a_file_that_went_away(tmp_path):
    name, _ = _load(tmp_path, json.dumps(GOOD))
    (tmp_path / "a.json").unlink()
    with pytest.raises(UsageError, match="no annotation file"):
        DatasetCatalog.get(name)
