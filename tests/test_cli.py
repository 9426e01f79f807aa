"""The command pixpro-d2: its table, and what it says at once."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from pixpro_d2 import __version__, cli
from pixpro_d2.commands.checks import check_file, check_first_word, check_weights, data_address
from pixpro_d2.utils.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
DETECTION = ("--task", "detection", "--data", "voc:docs@a")
NOT_LOADED = """
import sys
from pixpro_d2.cli import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in ("torch", "detectron2", "numpy") if name in sys.modules])
"""


def say(*words):
    """(exit code, lines of the output) of a command line."""
    done = subprocess.run([sys.executable, "-c", NOT_LOADED, *words], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_windows_is_refused_before_its_missing_modules_are_imported(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="^error: pixpro-d2 does not run on Windows itself: install .* WSL.$"):
        cli.main(["pretrain", "my_photos"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretain"], "There is no command 'pretain': did you mean pretrain?"),
        (["zzz"], "There is no command 'zzz': pixpro-d2 --help lists them."),
        (["pretrain", "./my_fotos"], f"There is no folder {ROOT}/my_fotos: check the path of the data."),
        (["pretrain", "voc:my_fotos@train"], f"There is no folder {ROOT}/my_fotos@train: check the path of the data."),
        (["pretrain", "README.md"], f"{ROOT}/README.md is no folder and no zip or tar file: name the folder"),
        (["pretrain", "my_fotos.zip"], f"There is no file {ROOT}/my_fotos.zip: check the path of the data."),
        (["pretrain", "{0..9}.tar"], f"There is no file {ROOT}/{{0..9}}.tar: check the path of the data."),
        (["check-data", "images:my_fotos.tgz"], "my_fotos.tgz is a compressed tar file, out of which single images"),
        (["pretrain", "docs", "--recipe", "pretrain/quikstart"], "did you mean pretrain/quickstart.yaml?"),
        (["pretrain", "docs", "SOLVER.MAX_ITER"], "Options come in pairs of KEY VALUE, but 'SOLVER.MAX_ITER' has no"),
        (
            ["pretrain", "docs", "b.tar", "c.tar"],
            "b.tar is one archive too many: put a pattern such as 'shards/{00..99}.t",
        ),
        (["pretrain", "docs", "--ouput", "here"], "'--ouput' is neither an option, listed by --help, nor a config"),
        (["finetune", "a.pth", *DETECTION], f"There is no checkpoint {ROOT}/a.pth: check"),
        (["finetune", "README.md", "--task", "detection", "--data", "docs"], "'docs' names no labelled data set: name"),
        (["finetune", "README.md", "--task", "detection", "--data", "./no"], "'./no' names no labelled data set: name"),
        (["evaluate", "nowhere"], f"There is no folder or checkpoint {ROOT}/nowhere: check"),
        (
            ["evaluate", "docs"],
            f"There is no checkpoint {ROOT}/docs/model_final.pth: name the folder of a finished run",
        ),
        (["finetune", "docs", *DETECTION], f"{ROOT}/docs is a folder: name a checkpoint in it."),
        (["train", "--config-file", "configs/none.yaml"], f"There is no config file {ROOT}/configs/none.yaml: "),
        (["check-data", "images:my_fotos"], f"There is no folder {ROOT}/my_fotos: check the path of the data."),
        (["convert", "no.pth", "out.pth"], f"There is no file or folder {ROOT}/no.pth: check the path."),
        (["report", "output/nowhere"], f"There is no file or folder {ROOT}/output/nowhere: check"),
        (["measure", "--config-file=zz"], f"There is no config file {ROOT}/zz: the configs of the package are in"),
    ],
)
def test_mistakes_are_answered_before_pytorch_is_loaded(words, message):
    code, output = say(*words)
    [error] = [line for line in output if line.startswith("error: ")]
    assert code == 1 and message in error and "[]" in output


@pytest.mark.parametrize("words", ["--help", "pretrain --help", "finetune -h", "evaluate -h", "completion -h"])
def test_help_is_there_before_pytorch_is_loaded(words):
    code, output = say(*words.split())
    assert code == 0 and "pixpro-d2" in output[0] and output[-1] == "[]"


def test_a_wrong_choice_is_answered_before_pytorch_is_loaded():
    code, output = say("finetune", "README.md", "--task", "detect", "--data", "voc:docs@a")
    assert code == 2 and "[]" in output and "invalid choice: 'detect'" in output[-1]


@pytest.mark.parametrize(("name", "missing"), [("pretrain", "DATA"), ("evaluate", "RUN")])
def test_only_required_words_are_missed(name, missing, capsys):
    with pytest.raises(SystemExit):
        cli.main([name])
    assert capsys.readouterr().err.endswith(f"the following arguments are required: {missing}\n")


def test_folders_without_their_contents(tmp_path):
    with pytest.raises(UsageError, match=f"^The folder {tmp_path} is empty: name the folder of the images.$"):
        data_address(str(tmp_path), "images")
    (tmp_path / "model_0000009.pth").touch()
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(UsageError, match=f"^{tmp_path} is a folder: name {tmp_path}/model_final.pth.$"):
        check_file(str(tmp_path), "checkpoint")


def test_a_home_folder_and_a_pattern_of_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.jpg", "data/train.txt", "model.pth", "shards/00.tar", "shards/01.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert data_address("~/photos", "images") == f"images:{tmp_path}/photos"
    assert data_address("voc:~/data@train") == "voc:~/data@train"  # expanded where the data set is registered
    check_weights("~/model.pth")
    check_first_word(["shards/{00..01}.tar"])
    check_first_word(["~/shards/{00..01}.tar"])
    with pytest.raises(UsageError, match="^There is no folder .*/nothing@train: check the path"):
        data_address("voc:~/nothing@train")
    with pytest.raises(UsageError, match="02.tar"):
        check_first_word(["shards/{00..02}.tar"])


def test_the_name_of_a_data_set_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bdd100k_video_train", "imagenet_trian"):  # the catalog's error corrects the second name
        assert data_address(name, "images") == data_address(name) == name
    with pytest.raises(UsageError, match=f"^There is no folder {tmp_path}/my_fotos: check the path of the data.$"):
        data_address("my_fotos", "images")
    (tmp_path / "imagenet_train" / "a").mkdir(parents=True)
    assert data_address("imagenet_train", "images") == "images:imagenet_train"


def test_every_command_has_a_module_and_is_listed(capsys):
    for module, _ in cli.COMMANDS.values():
        assert find_spec(module, "pixpro_d2"), module
    cli.main([])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[lines.index("commands:") + 1 :]} == set(cli.COMMANDS)


def test_every_command_is_called_as_it_was_started():
    for name, (module, _) in cli.COMMANDS.items():
        assert import_module(module, "pixpro_d2").build_parser().prog == f"pixpro-d2 {name}"


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


def test_a_tool_gets_its_arguments(capsys):
    with pytest.raises(SystemExit, match="error: There is no run in nowhere"):
        cli.main(["report", "nowhere"])


def test_without_detectron2_a_tool_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("pixpro_d2.commands.checks.detectron2_is_installed", lambda: False)
    with pytest.raises(SystemExit, match="^error: detectron2 is not installed: run `pixpro-d2 install-detectron2`"):
        cli.main(["measure"])


def test_an_opencv_that_does_not_import_is_one_sentence(tmp_path):
    """On a server, opencv-python finds no libGL."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file', name='cv2')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    words = [sys.executable, "-m", "pixpro_d2", "train", "--config-file", "pretrain/quickstart"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.stderr.startswith("error: OpenCV does not import (libGL.so.1: cannot open shared object file): replace")
