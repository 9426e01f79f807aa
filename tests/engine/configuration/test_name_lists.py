"""A single name without brackets where a config key holds a list of names."""

import pytest

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.utils.errors import UsageError

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.mark.parametrize(
    "value", ["images:my photos", "('images:my photos',)", "['images:my photos']", ("images:my photos",)]
)
@pytest.mark.parametrize("key", ["TRAIN", "TEST"])
def test_names_of_data_sets(key, value):
    cfg = load_config(QUICKSTART, [f"DATASETS.{key}", value])
    assert cfg.DATASETS[key] == ("images:my photos",)
    assert cfg.DATASETS.TRAIN == load_config(QUICKSTART, []).DATASETS.TRAIN or key == "TRAIN"


def test_a_config_file_with_one_name(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(f"_BASE_: {QUICKSTART}\nDATASETS:\n  TRAIN: images:my_photos\n")
    assert load_config(str(path), []).DATASETS.TRAIN == ("images:my_photos",)
    assert load_config(str(path), ["DATASETS.TRAIN", "images:b"]).DATASETS.TRAIN == ("images:b",)
    assert load_config(QUICKSTART, ["MODEL.PIXPRO.IN_FEATURES", "p3"]).MODEL.PIXPRO.IN_FEATURES == ["p3"]
    assert load_config(QUICKSTART, ["MODEL.TIMM.OUT_FEATURES", "res5"]).MODEL.TIMM.OUT_FEATURES == ["res5"]


@pytest.mark.parametrize(
    "value, message",
    [
        ("(images:my_photos,)", r"DATASETS.TRAIN is \(images:my_photos,\): write each name within brackets in quotes"),
        ("images:a,images:b c", r"write several names as \"\('images:a', 'images:b c'\)\".$"),
        ("voc:a@x, voc_2007_test", r"write several names as \"\('voc:a@x', 'voc_2007_test'\)\".$"),
        ("5", "DATASETS.TRAIN is 5; it must be a name or a list of names.$"),
        ("(5, 'a')", "DATASETS.TRAIN is .* must be a name or a list of names.$"),
    ],
)
def test_other_values(value, message):
    with pytest.raises(UsageError, match=message):
        load_config(QUICKSTART, ["DATASETS.TRAIN", value])


def test_a_name_may_have_a_comma():
    assert load_config(QUICKSTART, ["DATASETS.TRAIN", "images:a, b"]).DATASETS.TRAIN == ("images:a, b",)
