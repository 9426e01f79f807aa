"""Files for contributors and public hosts agree with the files that they repeat facts from."""

import re

import yaml
from documentation_helpers import read


def test_pre_commit_runs_the_pinned_ruff():
    repos = {repo["repo"].rpartition("/")[2]: repo for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    ruff = repos["ruff-pre-commit"]
    assert f"\nruff=={ruff['rev'].removeprefix('v')}\n" in read("constraints.txt")
    assert [hook["id"] for hook in ruff["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_workflow_tests_the_supported_versions():
    job = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]["test"]
    matrix = job["strategy"]["matrix"]
    makefile = read("Makefile")
    assert [f"({version.replace('.', ', ')})" in makefile for version in matrix["python"]] == [True, True]
    assert matrix["detectron2"] == ["v0.6", "main"]
    targets = [target for step in job["steps"] for target in re.findall(r"^make (\w+)", step.get("run", ""))]
    assert targets == ["setup", "lint", "docs", "test"]
    assert all(re.search(f"^{target}:", makefile, re.MULTILINE) for target in targets)
