"""The help of every tool: it is there at once, and it offers what the work behind it knows."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

from pixpro_d2 import tools
from pixpro_d2.extras.benchmark import commands
from pixpro_d2.extras.data_check import SAMPLE
from pixpro_d2.extras.demo import experiments
from pixpro_d2.tools import benchmark, check_data, demo
from pixpro_d2.tools.visualize import data_pictures, model_pictures, predictions
from pixpro_d2.tools.visualize.command_line import PICTURES

TOOLS = [module.name for module in pkgutil.iter_modules(tools.__path__)]
HELP = """
import contextlib, io, json, runpy, sys, time
loaded = {}
for name in sys.argv[1:]:
    sys.argv, start, text = [name, "--help"], time.process_time(), io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        runpy.run_module(f"pixpro_d2.tools.{name}", run_name="__main__", alter_sys=True)
    heavy = [heavy for heavy in ("torch", "detectron2") if heavy in sys.modules]
    loaded[name] = [text.getvalue().split(" [")[0], heavy, time.process_time() - start]
print(json.dumps(loaded))
"""


def test_no_tool_loads_pytorch_for_its_help():
    command = [sys.executable, "-c", HELP, *TOOLS]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert set(loaded) == set(TOOLS) and len(TOOLS) > 15
    for name, (words, heavy, seconds) in loaded.items():
        assert (words, heavy) == (f"usage: python -m pixpro_d2.tools.{name}", []), name
        assert seconds < 2, name


def test_choices_are_those_of_the_work():
    assert list(demo.SIZES) == list(experiments.SIZES)
    assert {name: run.__doc__ for name, run in commands.COMMANDS.items()} == benchmark.COMMANDS
    assert f"not only {SAMPLE} evenly" in check_data.build_parser().format_help()


def test_every_picture_has_its_function():
    modules = {".data_pictures": data_pictures, ".model_pictures": model_pictures, ".predictions": predictions}
    for name, (module, purpose) in PICTURES.items():
        assert getattr(modules[module], name).__doc__.startswith(purpose)
