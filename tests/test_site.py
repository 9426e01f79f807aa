"""The site of mkdocs.yml on a tiny repository; skipped without the packages that `make docs` installs."""

import ast
import subprocess
import sys

import pytest
import yaml
from documentation_helpers import read

pytest.importorskip("mkdocstrings")
ASSIGNMENTS = [node for node in ast.parse(read("docs/site_hooks.py")).body if isinstance(node, ast.Assign)]
[BESIDE] = [ast.literal_eval(node.value) for node in ASSIGNMENTS if node.targets[0].id == "BESIDE"]


@pytest.fixture
def repository(tmp_path):
    """A repository with an empty file for each page beside docs."""
    (tmp_path / "configs/init").mkdir(parents=True)
    (tmp_path / "configs/init/random.yaml").write_text("MODEL: {}\n")
    for source in BESIDE:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).write_text('{"cells": []}' if source.endswith("ipynb") else f"# {source}\n")
    (tmp_path / "docs/site_hooks.py").write_text(read("docs/site_hooks.py"))
    settings = yaml.safe_load(read("mkdocs.yml"))
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings | {"nav": [{"Page": "page.md"}, *BESIDE.values()]}))
    return tmp_path


def build(repository, page):
    (repository / "docs/page.md").write_text(page)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)


def test_links_lead_to_pages(repository):
    links = "[self](#a-b--c) [home](../README.md) [config](../configs/init/random.yaml) [all](../configs/init)"
    done = build(repository, f"# A, b & c\n{links}\n```\n[code](is/no/link)\n```\n")
    assert done.returncode == 0, done.stderr
    html = (repository / "build/site/page.html").read_text()
    config = "source/configs/init/random.yaml.html"
    for target in ("#a-b--c", "index.html", config, "source/configs/init.html"):
        assert f'<a href="{target}">' in html
    assert "MODEL" in (repository / "build/site" / config).read_text()
    assert '<a href="init/random.yaml.html">' in (repository / "build/site/source/configs/init.html").read_text()


@pytest.mark.parametrize("target", ["missing.md", "../configs/missing.yaml", "../README.md#missing", "#missing"])
def test_a_broken_link_ends_the_build(repository, target):
    done = build(repository, f"# Page\n[link]({target})\n")
    assert done.returncode == 1 and "missing" in done.stderr, done.stderr


def test_roles_of_docstrings_are_dropped(repository):
    (repository / "module.py").write_text('"""A module, see :func:`.other.function`."""\n')
    done = build(repository, "# Page\n\n::: module\n")
    assert done.returncode == 0, done.stderr
    assert "A module, see <code>other.function</code>." in (repository / "build/site/page.html").read_text()
