"""The installer of a Python-only detectron2: what it changes, and what it says when it cannot."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pixpro_d2 import install_detectron2 as installer

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "pixpro_d2.install_detectron2")


def write_source(root):
    """A source tree with every text that the installer expects."""
    for name, old, _ in installer.REPLACEMENTS:
        path = root / "detectron2" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + f"{old}\n")
    (root / "projects").mkdir()
    (root / "detectron2" / "masks.py").write_text(
        "a = np.bool\nb = x.astype(np.int)\nc = np.float32, np.bool_, np.int64, np.floating\nd = np.str, np.object\n"
    )
    (root / "setup.py").write_text("import torch.utils.cpp_extension\n")


def test_patch_replaces_removed_names_and_nothing_else(tmp_path):
    write_source(tmp_path)
    installer.patch(tmp_path)
    assert (tmp_path / "detectron2" / "masks.py").read_text() == (
        "a = bool\nb = x.astype(int)\nc = np.float32, np.bool_, np.int64, np.floating\nd = str, object\n"
    )
    for name, old, new in installer.REPLACEMENTS:
        text = (tmp_path / "detectron2" / name).read_text()
        assert new in text and old not in text.replace(new, "")
    assert "ext_modules" not in (tmp_path / "setup.py").read_text()
    assert 'name="detectron2"' in (tmp_path / "setup.py").read_text()


def test_patch_stops_at_a_source_it_does_not_know(tmp_path):
    write_source(tmp_path)
    (tmp_path / "detectron2" / installer.REPLACEMENTS[0][0]).write_text("something else\n")
    with pytest.raises(SystemExit, match="this script is out of date"):
        installer.patch(tmp_path)


def test_extension_stub_answers_collect_env_and_refuses_the_rest(tmp_path):
    (tmp_path / "stub.py").write_text(installer.EXTENSION_STUB)
    spec = importlib.util.spec_from_file_location("stub", tmp_path / "stub.py")
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    assert "Python-only" in stub.get_compiler_version() and not stub.has_cuda()
    with pytest.raises(AttributeError, match="nms_rotated is part of detectron2's compiled extension"):
        stub.nms_rotated(1)


def test_an_importable_detectron2_is_left_alone():
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "installed already; left as it is" in done.stdout


def test_a_clone_of_the_repository_in_the_current_folder_is_not_installed(tmp_path):
    (tmp_path / "detectron2" / "detectron2").mkdir(parents=True)
    (tmp_path / "detectron2" / "detectron2" / "__init__.py").touch()
    program = (
        "from pixpro_d2.install_detectron2 import installed_version\n"
        "from pixpro_d2.utils.detectron2_check import detectron2_is_installed\n"
        "import detectron2\n"
        "print(installed_version(), detectron2_is_installed())"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.stdout == "None False\n", done.stderr


@pytest.mark.parametrize("file, code", [("_C.py", 1), ("_C.cpython-311-x86_64-linux-gnu.so", 0), (None, 1)])
def test_an_official_build_is_known_by_its_extension(tmp_path, file, code):
    """make setup then leaves its PyTorch alone."""
    if file:
        (tmp_path / "detectron2").mkdir()
        (tmp_path / "detectron2" / "__init__.py").touch()
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0] if file.endswith(".so") else ".py"
        (tmp_path / "detectron2" / f"_C{suffix}").touch()
    # Without the installed packages.
    command = [sys.executable, "-S", *COMMAND[1:], "--find-official"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == code and ("stays" in done.stdout) == (code == 0), done.stderr


def test_no_network_is_one_sentence(tmp_path):
    code = f"import pathlib, pixpro_d2.install_detectron2 as i; i.download(pathlib.Path({str(tmp_path)!r}))"
    env = dict(os.environ, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    env.pop("PIP_FIND_LINKS", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 1 and "check the network" in done.stderr.splitlines()[-1]


def test_an_environment_without_pip_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="^This environment has no pip: run `uv pip install pip` if uv made it"):
        installer.run_pip("--version", failure="check the network")


def test_the_archive_is_unpacked_by_a_python_without_filters(tmp_path, monkeypatch):
    """Debian 12 has Python 3.11.2."""

    class Archive(tarfile.TarFile):
        def extractall(self, path=".", members=None, *, numeric_owner=False):
            super().extractall(path, members, numeric_owner=numeric_owner)

    with tarfile.open(tmp_path / "pb1-detectron2-0.6.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("pb1-detectron2-0.6/setup.py"))
    monkeypatch.setattr(installer, "run_pip", lambda *arguments, failure: None)
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(tarfile, "open", Archive.open)
    assert (installer.download(tmp_path) / "setup.py").is_file()


def test_broken_torchvision_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    with pytest.raises(SystemExit, match="torchvision cannot load its operators.*matching pair"):
        installer.check_torch()
