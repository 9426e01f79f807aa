"""Config files that cannot be merged: one sentence names the file and the key."""

import pytest
from detectron2.config import CfgNode

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.utils.errors import UsageError

QUICKSTART = configs.CONFIGS / "pretrain/quickstart.yaml"


@pytest.mark.parametrize(
    "text, message",
    [
        (b"SOLVER: {MAX_ITER: ten}", "SOLVER.MAX_ITER is ten; it must be a whole number."),
        (b"SOLVER: {MAX_ITER: 2.5}", "SOLVER.MAX_ITER is 2.5; it must be a whole number."),
        (b"SOLVER: {MAX_ITR: 5}", ": There is no config key 'SOLVER.MAX_ITR'; did you mean SOLVER.MAX_ITER?"),
        (b"SOLVER: 5", "SOLVER is 5; it must be a group of keys."),
        (b"DATASETS: {TRAIN: {a: b}}", "DATASETS.TRAIN is a: b; it must be a name or a list of names."),
        (b"DATASETS:\n  TRAIN:\n", "DATASETS.TRAIN has no value; give it one, or take the line out."),
        (b"SOLVER:\n", "SOLVER has no value; give it one, or take the line out."),
        (b"VERSION: 1\nMODEL: {WEIGHT: a}", "rename the keys that have changed, and remove the line VERSION."),
        (b"\x80\x02 a pickle", "is no text: name a .yaml file."),
        (b"# nothing yet\n", " has no keys: write them as lines of KEY: VALUE."),
        (b"", " has no keys: write them as lines of KEY: VALUE."),
        (
            b"SOLVER:\n  BASE_LR: 1.0\nSEED: 1\nSOLVER: {MAX_ITER: 7}",
            " has SOLVER twice, in line 4 again: join the two.",
        ),
        (b"SOLVER:\n  BASE_LR: 1.0\n  BASE_LR: 2.0", " has SOLVER.BASE_LR twice, in line 3 again: join the two."),
    ],
)
def test_values_of_other_kinds(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_bytes(text)
    with pytest.raises(UsageError) as error:
        load_config(str(path), [])
    assert str(error.value).startswith(f"Config {path}") and str(error.value).endswith(message)


def test_a_key_twice_in_a_file_below_is_found(tmp_path):
    (tmp_path / "base.yaml").write_text(f"_BASE_: {QUICKSTART}\nSEED: 1\nSEED: 2\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nSEED: 3\n")
    with pytest.raises(UsageError, match="base.yaml has SEED twice, in line 3 again"):
        load_config(str(tmp_path / "own.yaml"), [])


@pytest.mark.parametrize("base", ["pretrain/quickstart.yaml", "[configs/pretrain/quickstart]"])
def test_a_base_may_be_the_name_of_a_config_of_the_package(tmp_path, base):
    path = tmp_path / "own.yaml"
    path.write_text(f"_BASE_: {base}\nSEED: 3\n")
    assert load_config(str(path), []).dump() == load_config(str(QUICKSTART), ["SEED", 3]).dump()


def test_a_base_beside_the_file_comes_before_a_config_of_the_package(tmp_path):
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/quickstart.yaml").write_text("SEED: 3\n")
    (tmp_path / "own.yaml").write_text("_BASE_: pretrain/quickstart.yaml\n")
    assert load_config(str(tmp_path / "own.yaml"), []).dump() == load_config("", ["SEED", 3]).dump()


def test_whole_numbers_are_numbers(tmp_path):
    (tmp_path / "own.yaml").write_text(f"_BASE_: {QUICKSTART}\nSOLVER: {{BASE_LR: 1}}\n")
    assert repr(load_config(str(tmp_path / "own.yaml"), []).SOLVER.BASE_LR) == "1.0"


def test_a_similar_file_is_named(monkeypatch):
    wrong = QUICKSTART.with_name("quickstrat.yaml")
    with pytest.raises(UsageError, match=rf"^There is no config file {wrong}: did you mean {QUICKSTART}\?$"):
        load_config(str(wrong), [])
    with pytest.raises(
        UsageError, match=r"^There is no config file /nowhere/at_all.yaml: the configs of the package are in \S+\.$"
    ):
        load_config("/nowhere/at_all.yaml", [])


def test_a_file_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "own.yaml"
    path.write_text(f"_BASE_: {QUICKSTART}\nVERSION: 2\nSOLVER: {{MAX_ITER: 7, MAX_EPOCHS: 0}}\n")
    opened = []
    open_file = CfgNode._open_cfg.__func__
    monkeypatch.setattr(
        CfgNode, "_open_cfg", classmethod(lambda cls, name: opened.append(name) or open_file(cls, name))
    )
    assert load_config(str(path), []).SOLVER.MAX_ITER == 7
    assert opened[0] == str(path) and len(opened) == len(set(opened)) > 1


def test_a_run_s_own_config_is_read_again(tmp_path):
    """It lists all keys, also the key that has no value."""
    path = tmp_path / "config.yaml"
    path.write_text(load_config(str(QUICKSTART), []).dump())
    assert load_config(str(path), []).SOLVER.WEIGHT_DECAY_BIAS is None


@pytest.mark.parametrize("name", ["20261130", "1e-3", "None", "(1, 2)"])
def test_a_folder_may_have_the_name_of_a_number(tmp_path, name):
    path = tmp_path / "config.yaml"
    path.write_text(load_config(str(QUICKSTART), ["OUTPUT_DIR", name]).dump())
    assert f"./{name}" == load_config(str(path), []).OUTPUT_DIR
