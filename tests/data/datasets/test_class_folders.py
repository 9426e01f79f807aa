"""One folder of images a class."""

import pytest
from data_helpers import write_images
from detectron2.data import DatasetCatalog, MetadataCatalog

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.utils.errors import UsageError


def test_classes_are_the_sorted_folders(tmp_path):
    write_images(tmp_path / "zebra" / "deep", 1)
    write_images(tmp_path / "ant", 2)
    (tmp_path / "bee").mkdir()  # empty, but a class: other splits may have images of it
    for name in (".cache", "__MACOSX", "@eaDir"):
        (tmp_path / name).mkdir()
    write_images(tmp_path, 1)  # of no class
    name = f"classes:{tmp_path}"
    ensure_registered([name])
    metadata = MetadataCatalog.get(name)
    assert (metadata.classes, metadata.evaluator_type) == (["ant", "bee", "zebra"], "classification")
    dicts = DatasetCatalog.get(name)
    assert [(record["image_id"], record["category_id"]) for record in dicts] == [(0, 0), (1, 0), (2, 2)]
    assert dicts[2]["file_name"] == str(tmp_path / "zebra" / "deep" / "000.png")


def test_mistakes(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        ensure_registered([f"classes:{tmp_path}/none"])
    write_images(tmp_path, 1)
    with pytest.raises(UsageError, match="no sub-folders"):
        ensure_registered([f"classes:{tmp_path}"])


@pytest.mark.parametrize("splits", [("train", "val"), ("Test", "train")])
def test_splits_are_no_classes(tmp_path, splits):
    for split in splits:
        write_images(tmp_path / split / "cat", 1)
    with pytest.raises(UsageError, match=f"the splits {', '.join(splits)}, not .*classes:{tmp_path}/{splits[0]}"):
        ensure_registered([f"classes:{tmp_path}"])
    (tmp_path / "dog").mkdir()  # beside classes, such a name is one
    ensure_registered([f"classes:{tmp_path}"])
    shallow = tmp_path / "shallow"
    for name in splits:  # as are those of photographs, of train stations and of tests
        write_images(shallow / name, 1)
    ensure_registered([f"classes:{shallow}"])
