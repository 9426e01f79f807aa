"""How long the pre-training loader waits for images that cannot be read."""

import time

import pytest
from data_helpers import make_cfg, stop_clock, write_images

from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.loader import MAX_REPLACEMENTS, ViewDataset, build_view_loader
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.samples import load_images
from pixpro_d2.utils.errors import UsageError


def test_a_mount_that_stays_away_is_waited_for_once(tmp_path):
    write_images(tmp_path / "images", 40)
    keys = {"DATALOADER__RETRY_SECONDS": 1.0, "DATALOADER__MAX_UNREADABLE": 1.0}
    batches = iter(build_view_loader(make_cfg(f"images:{tmp_path / 'images'}", **keys)))
    next(batches)
    (tmp_path / "images").rename(tmp_path / "away")
    begin = time.monotonic()
    with pytest.raises(UsageError, match=f"^{MAX_REPLACEMENTS} images in a row are unreadable.*No such file"):
        next(batches)
    assert 1 <= time.monotonic() - begin < 10


def test_patience_is_back_after_a_success(tmp_path, monkeypatch):
    paths = write_images(tmp_path / "images", 3)
    cfg = make_cfg(f"images:{tmp_path / 'images'}")
    calls = []

    def mapper(image, rng):
        calls.append(image["file_name"])
        if image["file_name"] == str(paths[1]):  # a bad sector
            raise OSError(5, "Input/output error")
        return TwoViewMapper(cfg)(image, rng)

    def unreadable(image, rng):
        try:
            return mapper(image, rng)
        except OSError as error:
            raise UnreadableImage(f"{image['file_name']}: {error}") from error

    dataset = ViewDataset(load_images((f"images:{tmp_path / 'images'}",)), unreadable, seed=0, retry_seconds=1.25)
    pauses = stop_clock(monkeypatch)
    for _ in range(2):
        calls.clear()
        sample = dataset[0, 1]
        assert sample["file_name"] != str(paths[1]) and [name for name, _ in sample["skipped"]] == [str(paths[1])]
        assert calls == [str(paths[1])] * 3 + [sample["file_name"]]
    assert pauses == 2 * [0.5, 0.75]
