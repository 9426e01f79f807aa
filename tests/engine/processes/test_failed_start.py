"""What a run that cannot begin leaves behind."""

from pathlib import Path

import cli
import pytest
from data_helpers import write_images

import configs
from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.processes import failed_start
from pixpro_d2.engine.processes.failed_start import failed_start_undone, remove_failed_start
from pixpro_d2.utils.errors import UsageError


def failing(folder, error, written=("log.txt", "config.yaml", "seed.json"), exists=False):
    """Files in ``folder``, None without it, after a start has written some and ended with ``error``."""
    if exists:
        folder.mkdir()
    config = str(configs.CONFIGS / "pretrain/quickstart.yaml")
    args = argument_parser().parse_args(["--config-file", config, "OUTPUT_DIR", str(folder)])
    with pytest.raises(type(error)), failed_start_undone(args):
        folder.mkdir(exist_ok=True)
        for name in written:
            (folder / name).touch()
        raise error
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else None


def test_a_mistake_leaves_no_folder(tmp_path):
    assert failing(tmp_path / "new", UsageError("A mistake.")) is None


@pytest.mark.parametrize(
    ("error", "written", "exists"),
    [
        (RuntimeError("a fault"), ["log.txt"], False),  # whose log may tell more
        (UsageError("A mistake."), ["log.txt", "model_0000001.pth"], False),
        (UsageError("A mistake."), ["log.txt"], True),
    ],
)
def test_what_else_is_kept(tmp_path, error, written, exists):
    assert failing(tmp_path / "out", error, written, exists) == written


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.IMS_PER_BATCH", 1, "INPUT.PIXPRO.CROP_SIZE", 64], "p6 has one pixel of one image"),
        (["MODEL.WEIGHTS", "none.pth"], "There is no checkpoint"),
        (["TEST.PRECISE_BN.ENABLED", True], "PRECISE_BN.ENABLED is for downstream tasks"),
    ],
)
def test_real_starts(tmp_path, opts, message):
    write_images(tmp_path / "images", 8)
    words = ["--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{tmp_path}/images',)"]
    with pytest.raises(SystemExit, match=message):
        cli.run_here(*words, *configs.TINY, *opts, "OUTPUT_DIR", tmp_path / "out")
    assert not Path(tmp_path / "out").exists()


@pytest.mark.parametrize("error", [UsageError("Other shapes"), RuntimeError("a fault"), KeyboardInterrupt()])
def test_the_config_of_the_former_run_is_restored(tmp_path, error):
    (tmp_path / "config.yaml").write_text("of the checkpoints")
    args = argument_parser().parse_args(["--config-file", "pretrain/quickstart", "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(type(error), match=str(error)), failed_start_undone(args):
        (tmp_path / "config.yaml").write_text("of the refused command")
        raise error
    assert (tmp_path / "config.yaml").read_text() == "of the checkpoints"


def test_a_config_that_cannot_be_restored_hides_no_error(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("of the checkpoints")
    args = argument_parser().parse_args(["--config-file", "pretrain/quickstart", "OUTPUT_DIR", str(tmp_path)])

    def refuse(path, write):
        raise PermissionError(path)

    monkeypatch.setattr(failed_start, "write_file", refuse)
    with pytest.raises(UsageError, match="The cause"), failed_start_undone(args):
        (tmp_path / "config.yaml").write_text("of the refused command")
        raise UsageError("The cause.")


def test_values_of_a_run_are_kept(tmp_path):
    for folder, values in ((tmp_path / "began", '{"iteration": 19}'), (tmp_path / "new", "")):
        folder.mkdir()
        (folder / "log.txt.rank1").touch()
        (folder / "metrics.json").write_text(values)
        remove_failed_start(folder)
        assert folder.exists() == bool(values)


@pytest.mark.slow
def test_of_two_processes(tmp_path):
    """The mistake is found when all of them have begun to write."""
    (tmp_path / "empty").mkdir()
    words = ["--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{tmp_path}/empty',)"]
    words += [*configs.TINY, "OUTPUT_DIR", tmp_path / "out"]
    code, output = cli.train_net("--num-gpus", 2, *words)
    assert code == 1 and "No image file" in output and not (tmp_path / "out").exists()
