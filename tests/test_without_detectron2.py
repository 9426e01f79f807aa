"""The package in a process that finds no detectron2: what works, and what the rest says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = """
import sys

class Blocked:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked)
"""
LEARNER = """
import torch
from pixpro_d2 import PixelLearner

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2))
options = dict(image_size=32, hidden_dim=32, out_dim=8, total_steps=2)
learner = PixelLearner(net, 2, **options, instance_weight=1.0, norm="BN")
PixelLearner(torch.nn.Conv2d(3, 8, 3), **options, norm="GN")
optimizer = torch.optim.SGD(learner.parameters(), 0.1)
before = net[0].weight.detach().clone()
loss, info = learner(torch.rand(4, 3, 32, 32))
loss.backward()
optimizer.step()
learner.update_target(0)
assert not torch.equal(net[0].weight, before)
assert not [name for name in sys.modules if name.partition(".")[0] == "detectron2"]
"""


def run(program, *blocked):
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked) + program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_learner_takes_a_step():
    done = run(LEARNER, "detectron2")
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_neither_pytorch_nor_detectron2():
    program = "import pixpro_d2; print(pixpro_d2.__version__, 'PixelLearner' in dir(pixpro_d2))"
    assert run(program, "torch", "detectron2", "numpy").stdout == "0.1.0 True\n"


@pytest.mark.parametrize(
    "program", ["import pixpro_d2.engine", "import pixpro_d2.tools.convert", "import pixpro_d2; pixpro_d2.modeling"]
)
def test_what_needs_detectron2_says_how_to_get_it(program):
    done = run(program, "detectron2")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: detectron2 is not installed: run `pixpro-d2 install-detectron2`")


def test_cityscapes_is_an_extra():
    program = """
import pixpro_d2.engine, pixpro_d2.extras.scenes.writers
from pixpro_d2.data.datasets.catalog import ensure_registered
ensure_registered(["cityscapes:folder@train"])
"""
    done = run(program, "cityscapesscripts", "shapely")
    last = done.stderr.splitlines()[-1]
    assert last.endswith("Cityscapes data need cityscapesscripts: run `pip install cityscapesscripts shapely`.")


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("`torch.jit.script` is deprecated. Please switch to `torch.compile` or `torch.export`.", "FutureWarning"),
        ("torch.meshgrid: in an upcoming release, it will be required to pass the indexing argument.", "UserWarning"),
    ],
)
def test_warnings_of_pytorch_about_detectron2_are_not_shown(text, category):
    program = f"import warnings, pixpro_d2.tools\nwarnings.warn({text!r}, {category})\nwarnings.warn('another')"
    shown = run(program).stderr
    assert "another" in shown and category + ": " + text not in shown
