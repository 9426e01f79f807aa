"""The Dockerfile, as far as it can be tried without Docker: what it copies, installs and starts."""

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation_helpers import ROOT, Command, check, read
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LINES = re.sub(r"^ *#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ").splitlines()
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES if line]  # (instruction, the rest)
SETUP = next(i for i, (_, text) in enumerate(STEPS) if "make setup" in text)


def arguments(instruction, steps):
    return [text for name, text in steps if name == instruction]


def left_out(path):
    """Whether .dockerignore leaves a path of the checkout out: the last rule for it, or a folder above it, decides."""
    result = False
    for rule in read(".dockerignore").splitlines():
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if rule and not rule.startswith("#") and re.fullmatch(f"{pattern}(/.*)?", str(path)):
            result = not rule.startswith("!")
    return result


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    """The folder as it is after setup, which installs nothing here, with the metadata that pip makes of it."""
    path = tmp_path_factory.mktemp("workspace")
    for text in arguments("COPY", STEPS[:SETUP]):
        *sources, target = [word for word in text.split() if not word.startswith("--")]
        (path / target).mkdir(parents=True, exist_ok=True)
        for source in sources:
            assert not left_out(source), source
            shutil.copy(ROOT / source, path / target)
    # Of make, a missing file or target is an error before anything runs.
    dry = STEPS[SETUP][1].replace("make setup", "make --dry-run setup")
    subprocess.run(dry, shell=True, cwd=path, check=True, timeout=60)
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info"], cwd=path, check=True, timeout=60)
    return path


def test_make_in_a_container_uses_the_environment_of_the_image():
    [variables] = arguments("ENV", STEPS[:SETUP])
    assert "VENV=/opt/venv" in variables.split() and "VENV=" not in STEPS[SETUP][1]
    env = {**os.environ, "VENV": "/nowhere/venv"}
    command = ["make", "--dry-run", "--always-make", "demo"]
    made = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60).stdout
    assert "/nowhere/venv/bin/python -m pixpro_d2.tools.demo" in made and "/nowhere/venv/.installed" in made
    assert ".venv/" not in made
    assert "touch /opt/venv/.installed" in arguments("RUN", STEPS[SETUP + 1 :])


def test_a_source_distribution_has_the_tests_with_all_they_need(tmp_path):
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    listed = set((tmp_path / "pixpro_d2.egg-info" / "SOURCES.txt").read_text().split("\n"))
    folders = ("configs", "docs", "notebooks", "pixpro_d2", "tests")
    files = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.*") if path.is_file()]
    needed = {str(path) for path in files if "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts}
    assert needed <= listed and {"train_net.py", "constraints.txt", "mkdocs.yml", "datasets/README.md"} <= listed
    assert not any(name.endswith(".pyc") for name in listed)


def test_setup_has_all_that_it_needs(layer):
    assert (layer / "pixpro_d2.egg-info/top_level.txt").read_text().split() == ["pixpro_d2"]


def test_nothing_is_installed_beside_setup():
    assert not [text for text in arguments("RUN", STEPS) if "pip" in text.split()]


def test_python_is_one_that_setup_takes(layer):
    [version] = re.findall(r"^python:(3\.\d+)-", arguments("FROM", STEPS)[0])
    major, minor = version.split(".")
    assert f"({major}, {minor})" in read("Makefile")
    [required] = re.findall(r"^Requires-Python: (.*)$", (layer / "pixpro_d2.egg-info/PKG-INFO").read_text(), re.M)
    assert version in SpecifierSet(required)


def test_every_requirement_that_setup_installs_is_pinned_within_its_range(layer):
    assert all(f"-e '.[{extra}]'" in read("Makefile") for extra in ("dev", "docs"))
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    [always, *extras] = (layer / "pixpro_d2.egg-info/requires.txt").read_text().split("\n\n[")
    installed = [line for extra in extras if extra.startswith(("dev]", "docs]")) for line in extra.split()[1:]]
    names = set()
    for requirement in map(Requirement, [*always.split(), *installed]):
        names.add(requirement.name)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert {"torch", "cityscapesscripts", "pytest", "mkdocs-material"} <= names and "detectron2" not in names


def test_the_image_has_the_sources_and_no_data():
    assert arguments("COPY", STEPS[SETUP:]) == ["--chown=pixpro . ."]
    folders = ("configs", "docs", "notebooks", "pixpro_d2", "tests")
    sources = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.*")]
    kept = [path for path in sources if "__pycache__" not in path.parts]
    assert len(kept) > 400
    assert not [path for path in (*kept, "train_net.py", "LICENSE", "datasets/README.md") if left_out(path)]
    ignored = [line.strip("/") for line in read(".gitignore").splitlines() if not line.startswith("!")]
    for name in (".git/HEAD", "pixpro_d2/data/__pycache__/a.pyc", *(line.replace("*", "a") for line in ignored)):
        assert left_out(name), name


def test_it_starts_the_demo_as_a_user_without_privileges():
    [command] = arguments("CMD", STEPS)
    python, _, module, *argv = json.loads(command)
    assert python == "python"
    args, _ = check(Command(command, (), module.removeprefix("pixpro_d2.tools."), tuple(argv)))
    assert args.device == "cuda" and not args.output.is_absolute()
    assert (arguments("ARG", STEPS), arguments("USER", STEPS)) == (["UID=1000"], ["$UID"])
    assert Path(arguments("WORKDIR", STEPS)[-1]).is_absolute()


def test_pytorch_works_as_a_user_without_a_name(monkeypatch):
    """As `docker run --user 54321` and Kubernetes' runAsUser start it; torch._inductor asks for the name."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    for word in " ".join(arguments("ENV", STEPS)).split():
        monkeypatch.setenv(*word.split("=", 1))
    monkeypatch.setattr("os.getuid", lambda: 54321)
    assert getpass.getuser() == "pixpro" and os.path.expanduser("~") == "/tmp"
