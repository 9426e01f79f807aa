"""The README and the pages of docs: their commands run, small and on rendered data, and what they name is there."""

import ast
import doctest
import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess

import pytest
import yaml
from detectron2.config import CfgNode
from documentation_helpers import ROOT, anchors, blocks, check, commands, expand, links, prose, read, spans
from small_commands import reader_folder, render_data, run, why_not_run

from pixpro_d2.engine.configuration.configure import load_config

FOLDERS = (ROOT, ROOT / "docs", ROOT / "docs/api", ROOT / "datasets", ROOT / "weights")
PAGES = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in folder.glob("*.md"))
PROGRAMS = {"cd", "docker", "export", "git", "mkdir", "pip", "source", "tensorboard"}  # of others


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    render_data(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)[0]])
def test_commands_run(page, data, record_property, tmp_path):
    with reader_folder(tmp_path / "reader", data):
        for command in commands(page)[0]:
            reason = why_not_run(command)
            record_property("command", (page, reason))  # for the summary at the end
            if not reason:
                print(f"$ {command.text}")
                run(command)


@pytest.mark.parametrize("page", PAGES)
def test_arguments_and_config_keys_of_commands_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    ours, others = commands(page)
    for command in ours:
        check(command)
    for program, *words in others:
        if program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        elif program == "python" and words[0] == "-c":
            ast.parse(words[1])
        elif program == "python":
            assert (ROOT / words[0]).exists(), f"{page}: there is no {words[0]}"
        else:
            assert program in PROGRAMS, f"{page}: what is '{program}'?"


@pytest.mark.parametrize("page", PAGES)
def test_other_blocks(page, monkeypatch):
    """Python is valid and what it imports exists; sessions print what they show; YAML has keys that exist."""
    monkeypatch.syspath_prepend(ROOT)
    for block in blocks(page, "python"):
        imports = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page, "exec"), {})
    for block in blocks(page, "pycon"):
        session = doctest.DocTestParser().get_doctest(block, {}, page, page, 0)
        assert session.examples and not doctest.DocTestRunner().run(session).failed
    for block in blocks(page, "yaml"):
        keys = {key: value for key, value in yaml.safe_load(block).items() if key != "_BASE_"}
        load_config("", []).merge_from_other_cfg(CfgNode(keys))


@pytest.mark.parametrize("page", PAGES)
def test_files_modules_and_keys_that_are_named_exist(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        if "://" not in target:
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists() and (not anchor or anchor in anchors(file)), f"{page} links to {target}"
    for span in spans(page):
        for path in expand(span) if re.match(r"(configs|docs|pixpro_d2|tests)/", span) else []:
            assert list(ROOT.glob(path.partition(":")[0])), f"{page} names {path}"
    for name in re.findall(r"python -m (pixpro_d2[\w.]+)", read(page)):
        assert importlib.util.find_spec(name), f"{page} names {name}"
    cfg = load_config("", [])
    for key in re.findall(r"\b(?:[A-Z][A-Z0-9_]*\.)+[A-Z][A-Z0-9_]*\b", prose(page)):
        node = cfg
        if key.split(".")[0] in cfg:
            for part in key.split("."):
                assert isinstance(node, CfgNode) and part in node, f"{page} names {key}"
                node = node[part]


# Stand-ins: two machines with the codes $CODES of train_net.py, whose processes and shell all get a signal.
SLURM = {
    "scontrol": "case $1 in show) echo node0;; requeue) echo requeued $2;; esac",
    "srun": """
        while [ "$1" != bash ]; do shift; done
        highest=0
        for SLURM_NODEID in 0 1; do
            export SLURM_NODEID; "$@"; code=$?
            if [ $code -gt $highest ]; then highest=$code; fi
        done
        exit $highest""",
    "python": "kill -USR1 $PPID; kill -TERM $PPID; codes=($CODES); exit ${codes[$SLURM_NODEID]}",
}


@pytest.mark.parametrize(
    "codes, code, requeued", [("0 0", 0, 0), ("75 75", 75, 1), ("75 1", 255, 0), ("137 75", 255, 0)]
)
def test_the_slurm_script_requeues_a_stopped_job_and_no_failing_one(codes, code, requeued, tmp_path):
    """A failing machine makes SLURM stop the other one, which may then exit with 75, as if it was to be requeued."""
    for name, text in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    [script] = [block for block in blocks("docs/scaling.md", "bash") if block.startswith("#!")]
    variables = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[0-1]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }
    env = {**os.environ, **variables, "CODES": codes, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, requeued * "requeued 7\n", "")


def test_every_page_is_in_the_index_and_on_the_site():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")} - {"README.md"}
    site = yaml.safe_load(read("mkdocs.yml"))
    assert pages <= {target.partition("#")[0] for target in links("docs/README.md")}
    assert pages <= {path for part in site["nav"] for entry in part.values() for path in _paths(entry)}


def _paths(entry):
    return [entry] if isinstance(entry, str) else [path for part in entry for path in part.values()]


def test_the_reference_describes_what_exists():
    names = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", read(page), re.MULTILINE)]
    assert len(names) > 5
    assert not [name for name in names if not inspect.getdoc(pkgutil.resolve_name(name))]


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_a_sentence_looks_like_a_list(page):
    """A line that begins with a minus is an item of a list, wherever the sentence before it breaks off."""
    lines = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL).splitlines()
    broken = [
        (before, line)
        for before, line in zip(lines, lines[1:])
        if re.match(r"\s*[-+*] ", line) and before.count("(") > before.count(")")
    ]
    assert not broken
