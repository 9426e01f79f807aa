"""A config.yaml that was written under a later detectron2."""

import pytest
import yaml

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.engine.configuration.merging import LATER_KEYS, later_keys_known
from pixpro_d2.utils.errors import UsageError

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


def written(folder, **changes):
    """A config.yaml as a run under the main branch has written it; returns its path, and the config of the run."""
    cfg = load_config(QUICKSTART, ["SOLVER.MAX_ITER", 7])
    content = yaml.safe_load(cfg.dump())
    for key, default in LATER_KEYS.items():
        *nodes, name = key.split(".")
        node = content
        for part in nodes:
            node = node[part]
        node[name] = changes.get(name, default)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "config.yaml"), cfg


def test_defaults_are_left_out(tmp_path):
    path, cfg = written(tmp_path)
    assert yaml.safe_load(load_config(path, []).dump()) == yaml.safe_load(cfg.dump())


@pytest.mark.parametrize("name, value", [("FLOAT32_PRECISION", "highest"), ("USE_FED_LOSS", True), ("NUM_DECAYS", 2)])
def test_other_values_are_told(tmp_path, name, value):
    path, cfg = written(tmp_path, **{name: value})
    if name in cfg:
        pytest.skip("this detectron2 has the key")
    with pytest.raises(UsageError, match=f"{name} is {value!r}, a key of detectron2 after v0.6, but v0.6 is installed"):
        load_config(path, [])


def test_keys_that_are_there_are_kept():
    cfg = load_config("", [])
    cfg.FLOAT32_PRECISION = "high"
    with later_keys_known(cfg):
        pass
    assert cfg.FLOAT32_PRECISION == "high"
