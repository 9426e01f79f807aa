"""The launcher's arguments of an evaluation."""

import pytest

from pixpro_d2.commands.evaluate import evaluation_words
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    for name in ("config.yaml", "model_final.pth", "model_0000009.pth"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(("run", "checkpoint"), [("", "model_final.pth"), ("model_0000009.pth", "model_0000009.pth")])
def test_a_run_or_one_of_its_checkpoints(folder, run, checkpoint):
    (folder / "data").mkdir()
    words = evaluation_words(str(folder / run), f"voc:{folder}/data@test", ["SEED", "1"])
    assert words == [
        "--eval-only", "--config-file", f"{folder}/config.yaml", "MODEL.WEIGHTS", f"{folder}/{checkpoint}",
        "OUTPUT_DIR", str(folder), "DATASETS.TEST", f"voc:{folder}/data@test", "SEED", "1",
    ]  # fmt: skip


def test_a_checkpoint_alone_is_no_run(folder):
    (folder / "config.yaml").unlink()
    with pytest.raises(UsageError, match=f"There is no config of a run {folder}/config.yaml"):
        evaluation_words(str(folder / "model_final.pth"), "", [])
