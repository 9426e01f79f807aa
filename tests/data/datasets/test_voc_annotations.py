"""Pascal VOC annotations as other programs than VOC's write them."""

import pytest
from annotation_helpers import replace_in, voc_object, write_voc
from data_helpers import dicts_of
from detectron2.data import MetadataCatalog

from pixpro_d2.data.datasets.voc import class_names, read_annotation
from pixpro_d2.utils.errors import UsageError

BOX = (11, 5, 20, 9)


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (voc_object("cell", BOX), ("cell", [10, 4, 20, 9], False)),
        (voc_object(" cell\n", BOX, ""), ("cell", [10, 4, 20, 9], False)),
        (voc_object("cell", (" 11.5", 5, "20.25 ", 9)), ("cell", [10.5, 4, 20.25, 9], False)),
        *(
            (voc_object("cell", BOX, f"<difficult>{text}</difficult>"), ("cell", [10, 4, 20, 9], difficult))
            for text, difficult in {"1": True, " 1 ": True, "2": True, "true": True, "0": False, "": False}.items()
        ),
        (voc_object("cell", BOX, "<difficult>Unspecified</difficult>"), ("cell", [10, 4, 20, 9], False)),
    ],
)
def test_an_object(tmp_path, xml, expected):
    write_voc(tmp_path, {"a": [xml]})
    assert read_annotation(tmp_path / "Annotations/a.xml") == (48, 40, [expected])


def test_names_that_differ_by_the_spaces_around_them_are_one_class(tmp_path):
    name = write_voc(tmp_path, {"a": [voc_object("cell", BOX), voc_object(" cell ", BOX), voc_object("dot", BOX)]})
    (record,) = dicts_of(name)
    assert MetadataCatalog.get(name).thing_classes == ["cell", "dot"]
    assert [annotation["category_id"] for annotation in record["annotations"]] == [0, 0, 1]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("<size><width>48</width><height>40</height></size>", "", "<annotation> has no <size><width>"),
        ("<height>40</height>", "", "<annotation> has no <size><height>"),
        ("bndbox>", "box>", "<object> has no <bndbox><xmin>"),
        ("<xmax>20</xmax>", "<xmax> </xmax>", "<object> has no <bndbox><xmax>"),
        ("<name>cell</name>", "<name> </name>", "<object> has no <name>"),
        ("<xmax>20</xmax>", "<xmax>twenty</xmax>", "could not convert string to float: 'twenty'"),
    ],
)
def test_what_is_missing_is_named(tmp_path, old, new, reason):
    write_voc(tmp_path, {"a": [voc_object("cell", BOX)]})
    path = tmp_path / "Annotations/a.xml"
    replace_in(path, old, new)
    with pytest.raises(UsageError) as caught:
        read_annotation(path)
    assert str(caught.value) == f"{path} is not a usable Pascal VOC annotation: {reason}."


def test_names_of_images_may_have_spaces_and_folders(tmp_path):
    images = {"my photo 1": ["cell"], "my": ["dot"], "deep/er": ["line"]}
    name = write_voc(tmp_path, {image_id: [voc_object(x, BOX) for x in names] for image_id, names in images.items()})
    (tmp_path / "Annotations/._my.xml").write_bytes(b"\0")  # as macOS writes it
    dicts = dicts_of(name)
    assert class_names(str(tmp_path)) == ["cell", "dot", "line"]
    assert [(record["image_id"], record["annotations"][0]["category_id"]) for record in dicts] == [
        ("my photo 1", 0),
        ("my", 1),
        ("deep/er", 2),
    ]
    assert dicts[0]["file_name"] == f"{tmp_path}/JPEGImages/my photo 1.jpg"


def test_a_name_without_an_annotation_is_told_as_a_whole(tmp_path):
    name = write_voc(tmp_path, {"my": [voc_object("cell", BOX)]}, lines=["your photo 1"])
    with pytest.raises(UsageError, match=r"Annotations/your photo 1\.xml is not a usable Pascal VOC annotation"):
        dicts_of(name)
