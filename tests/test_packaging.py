"""The wheel: what is in it, and that it works in a folder without a checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pixpro_d2

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of an unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "build", "--build-base", folder]
    command += ["bdist_wheel", "--dist-dir", folder, "--bdist-dir", folder / "bdist"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_modules_configs_weights_and_the_page_of_the_report(installed):
    configs = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    inside = installed / "pixpro_d2" / "configs"
    assert configs and {path.relative_to(inside) for path in inside.rglob("*.*")} == configs
    weights = {path.name for path in (ROOT / "weights").iterdir()}
    assert weights == {path.name for path in (installed / "pixpro_d2" / "weights").iterdir()}
    package = ROOT / "pixpro_d2"
    needed = {
        path.relative_to(package) for path in package.rglob("*") if path.suffix in (".py", ".html", ".css", ".js")
    }
    assert {Path("extras/report/page.html"), Path("engine/main.py")} <= needed
    assert not [path for path in needed if not (installed / "pixpro_d2" / path).is_file()]


def test_its_metadata(installed):
    [info] = installed.glob("*.dist-info")
    metadata = (info / "METADATA").read_text()
    assert f"Version: {pixpro_d2.__version__}\n" in metadata
    assert "Requires-Dist: torch>=2.6\n" in metadata and "Requires-Dist: detectron2" not in metadata
    assert "pixpro-d2 = pixpro_d2.cli:main" in (info / "entry_points.txt").read_text()


def test_a_config_is_found_by_name_in_any_folder(installed, tmp_path):
    program = "from pixpro_d2.config_files import config_path; print(config_path('configs/pretrain/quickstart.yaml'))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(installed)})
    assert done.stdout == f"{installed}/pixpro_d2/configs/pretrain/quickstart.yaml\n", done.stderr
