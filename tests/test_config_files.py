"""Configs of the package by name."""

from pathlib import Path

import pytest

from pixpro_d2.config_files import config_names, config_path
from pixpro_d2.utils.errors import UsageError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.mark.parametrize(
    "name", ["pretrain/quickstart", "pretrain/quickstart.yaml", "configs/pretrain/quickstart.yaml"]
)
def test_a_name_in_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_path(name) == str(CONFIGS / "pretrain" / "quickstart.yaml")


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pretrain").mkdir()
    Path("pretrain/quickstart.yaml").touch()
    assert config_path("pretrain/quickstart.yaml") == "pretrain/quickstart.yaml"


def test_a_typing_mistake_is_answered_with_the_most_similar_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"no config file {tmp_path}/pretrain/quikstart: did you mean pretrain/quick"):
        config_path("pretrain/quikstart")
    for name, recipe in (("quickstart1", "quickstart"), ("pixpro", "pixpro_fpn")):  # no file of configs/init
        with pytest.raises(UsageError, match=rf"did you mean pretrain/{recipe}\.yaml\?$"):
            config_path(name)
    with pytest.raises(UsageError, match=f"the configs of the package are in {CONFIGS}"):
        config_path("zzzz")


def test_names():
    assert "pretrain/quickstart.yaml" in config_names() and len(config_names()) == len(list(CONFIGS.rglob("*.yaml")))
