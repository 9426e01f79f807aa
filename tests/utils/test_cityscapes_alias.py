"""cityscapesscripts by the name that detectron2's main branch imports it by; in processes of their own."""

import subprocess
import sys

import pytest

# What the functions of detectron2's main branch import.
IMPORTS = """
import deeplearning.projects.cityscapesApi.cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as instances
import deeplearning.projects.cityscapesApi.cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as pixels
from deeplearning.projects.cityscapesApi.cityscapesscripts.helpers.labels import id2label, name2label, trainId2label
import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as real_instances
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as real_pixels
from cityscapesscripts.helpers import labels
assert instances is real_instances and pixels is real_pixels and id2label is labels.id2label
print("the same")
"""
LABELS = """
from deeplearning.projects.cityscapesApi.cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.helpers import labels
assert id2label is labels.id2label
print("the same")
"""


def _run(program, **options):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("pixpro_d2.evaluation.build", IMPORTS),
        ("pixpro_d2.data.datasets.catalog", LABELS),
        ("pixpro_d2.engine", IMPORTS),
    ],
)
def test_main_finds_its_modules(module, program):
    done = _run(f"import {module}\n{program}")
    assert done.stdout == "the same\n", done.stderr


def test_a_package_of_this_name_is_left_alone(tmp_path):
    (tmp_path / "deeplearning").mkdir()
    (tmp_path / "deeplearning" / "__init__.py").write_text("mine = True\n")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from pixpro_d2.utils.cityscapes_alias import alias_cityscapesscripts
alias_cityscapesscripts("helpers.labels")
import deeplearning
print(deeplearning.mine, "deeplearning.projects" in sys.modules)
alias_cityscapesscripts("helpers.labels")
print("deeplearning.projects" in sys.modules)
"""
    done = _run(program)
    assert done.stdout == "True False\nFalse\n", done.stderr
