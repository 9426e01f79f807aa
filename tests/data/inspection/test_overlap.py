"""A warning where a model is tested on images that it is trained on."""

import logging

import pytest
from data_helpers import write_images

from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.data.inspection.overlap import image_files, warn_of_shared_images


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of images of the same names, and a link to the first."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_images(tmp_path / name, 3)
    (tmp_path / "link").symlink_to("a")
    return tmp_path


def _dicts(name):
    ensure_registered([name])
    return load_dicts(name)


@pytest.mark.parametrize("test, shared", [("a", 3), ("./a/", 3), ("link", 3), ("b", 0)])
def test_files_are_the_same_however_they_are_spelt(folders, caplog, test, shared):
    tested = {"the test": image_files(_dicts(f"images:{test}"))}
    with caplog.at_level(logging.WARNING):
        warn_of_shared_images(_dicts(f"images:{folders}/a"), tested)
    words = f"{shared} of the 3 images of 'the test' in DATASETS.TEST are in DATASETS.TRAIN too: results on them say"
    records = [record for record in caplog.records if record.name == "pixpro_d2.data.inspection.overlap"]
    assert [words in record.message for record in records] == [True] * bool(shared)


def test_videos_have_no_files_of_their_own(caplog):
    warn_of_shared_images([{"num_frames": 3}], {"x": image_files([{"num_frames": 3}])})
    assert not caplog.records
