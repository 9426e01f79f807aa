"""The notebook: stored with the outputs of a whole run, and run from top to bottom in a small form."""

import base64
import io
import os
import re
from pathlib import Path

import nbformat
import pytest
from documentation_helpers import ROOT
from nbclient import NotebookClient
from PIL import Image, ImageStat

import pixpro_d2

NOTEBOOK = ROOT / "notebooks" / "demo.ipynb"
SMALL = {
    "IMAGES": 16,
    "LABELLED_IMAGES": 4,
    "TEST_IMAGES": 4,
    "EPOCHS": 5,
    "ITERATIONS": 2,
    "METRICS_PERIOD": 1,
    "VIS_PERIOD": 5,
}
PICTURES = {"pairs": 2, "matches": 1, "attention": 1, "features": 1, "segmentations": 4}


def load():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def outputs(folder):
    """Outputs of the notebook's cells in the small form, by the id of the cell."""
    notebook = load()
    [sizes] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    values = {"OUT": folder / "out", "DATA": f"images:{folder}/out/unlabelled/JPEGImages", **SMALL}
    assert re.findall(r"^%env (\w+)=", sizes.source, re.MULTILINE) == list(values)
    sizes.source = "\n".join(f"%env {name}={value}" for name, value in values.items())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name))
        resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
        NotebookClient(notebook, timeout=400, coalesce_streams=True, resources=resources).execute()
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs):
    return "".join(x.text for x in outputs if x.output_type == "stream" and x.name == "stdout")


def test_it_is_stored_with_the_outputs_of_a_whole_run():
    cells = [cell for cell in load().cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = {cell.id: cell.outputs for cell in cells}
    assert not [name for name, found in outputs.items() for x in found if x.output_type == "error"]
    assert all(len(outputs[f"{name}-pictures"]) >= count for name, count in PICTURES.items())
    assert str(ROOT) not in NOTEBOOK.read_text() and NOTEBOOK.stat().st_size < 6e6


def test_its_commands_use_only_its_variables_which_a_terminal_can_set():
    cells = {cell.id: cell.source for cell in load().cells if cell.cell_type == "code"}
    commands = "".join(source for source in cells.values() if source.startswith("%%bash"))
    used = set(re.findall(r"\$([A-Z_]+)", commands))
    assert used and used <= set(re.findall(r"^%env (\w+)=", cells["sizes"], re.MULTILINE))


def test_its_links_lead_somewhere():
    text = "".join(cell.source for cell in load().cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets and all((NOTEBOOK.parent / target).is_file() for target in targets)


def test_it_stays_in_its_folder_beside_an_installed_package(tmp_path, monkeypatch):
    for name, value in {"OUT": "out", "PATH": os.environ["PATH"], "PYTHONWARNINGS": ""}.items():
        monkeypatch.setenv(name, value)  # the cell replaces some of them
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pixpro_d2, "__file__", str(tmp_path / "site-packages/pixpro_d2/__init__.py"))
    cells = [cell for cell in load().cells if cell.cell_type == "code"]
    exec(next(cell.source for cell in cells if cell.id == "check"), {})
    assert Path.cwd() == tmp_path and not [cell for cell in cells if "python train_net.py" in cell.source]


@pytest.mark.slow
def test_no_cell_fails(outputs):
    assert len(outputs) > 10
    assert not [name for name, found in outputs.items() for x in found if x.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_something(outputs, name):
    found = [x.data["image/jpeg"] for x in outputs[f"{name}-pictures"] if "image/jpeg" in x.get("data", {})]
    assert len(found) == PICTURES[name]
    for jpeg in found:
        picture = Image.open(io.BytesIO(base64.b64decode(jpeg))).convert("RGB")
        assert picture.width > 900
        assert min(ImageStat.Stat(picture).stddev) > 20 and picture.getcolors(maxcolors=1000) is None


@pytest.mark.slow
def test_runs_say_how_they_went(outputs, folder):
    assert re.search(r"torch \S+, torchvision \S+, detectron2 \S+\nruns on c", printed(outputs["check"]))
    assert "wrote 16 train and 0 test images" in printed(outputs["images"])
    assert "wrote 4 train and 4 test images" in printed(outputs["images"])
    assert re.search(r"^eta: 0:00:00  iter: 4  total_loss: -?\d", printed(outputs["pretrain"]), re.MULTILINE)
    assert printed(outputs["health"]).startswith("After 5 iterations: Too early to tell")  # metrics.json has one line
    for start in ("pixpro", "random"):
        assert re.search(rf"^{start}( +(-?\d+\.\d|nan)){{2}}$", printed(outputs["results"]), re.MULTILINE)
    log = (folder / "out/pixpro/log.txt").read_text()
    assert "Backbone: 20 of 20 convolutions" in log
    assert "Backbone:" not in (folder / "out/random/log.txt").read_text()


@pytest.mark.slow
def test_the_report_is_about_the_three_runs(outputs, folder):
    [link] = outputs["report-link"]
    assert str(folder / "out/report.html") in link.data["text/html"]
    page = (folder / "out/report.html").read_text()
    assert re.findall(r"<h2>.* (\w+) <span class=\"badge\">", page) == ["pretrain", "pixpro", "random"]
    assert "sem_seg/mIoU" in page
