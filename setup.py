"""Packaging of pixpro_d2. Ranges only; constraints.txt pins the tested set."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+?)"', (HERE / "pixpro_d2" / "__init__.py").read_text(), re.MULTILINE)[1]

CITYSCAPES = [
    "cityscapesscripts>=2.2",  # detectron2's Cityscapes data sets read their labels with it
    "shapely>=2",  # detectron2 reads Cityscapes' polygons with it
]

COMPLETION = ["shtab>=1.7"]  # for `pixpro-d2 completion`
ONNX = [
    "onnx>=1.16",
    "onnxruntime>=1.18",  # compares the graph with the network
    "onnxscript>=0.2",  # PyTorch's exporter
]
TIMM = ["timm>=1.0.22"]  # earlier versions cannot build their vision transformers without values


class BuildWithFolders(build_py):
    """The package with the checkout's configs and weights in it; an editable one finds them in the checkout."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in ("configs", "weights"):
                target = Path(self.build_lib, "pixpro_d2", name)
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(HERE / name, target)


setup(
    name="pixpro_d2",
    version=VERSION,
    description="PixPro dense self-supervised pre-training as a detectron2 project",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pixpro_d2", "pixpro_d2.*"]),
    package_data={"pixpro_d2.extras.report": ["page.html", "page.css", "page.js"]},
    cmdclass={"build_py": BuildWithFolders},
    entry_points={"console_scripts": ["pixpro-d2 = pixpro_d2.cli:main"]},
    python_requires=">=3.10",
    # And detectron2, which is not on PyPI: `pixpro-d2 install-detectron2`, or a build from its repository.
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "fvcore>=0.1.5",
        "Jinja2>=3",  # the report's page; PyTorch needs it too
        "matplotlib>=3.10",  # pictures; detectron2 needs it too
        "numpy>=1.23",
        "opencv-python-headless>=4.7",  # colours of views, video, and optical flow without weights
        "Pillow>=9.1",
        "pycocotools>=2.0.2",
        "safetensors>=0.4",
        "setuptools>=70.1",  # `pixpro-d2 install-detectron2` builds a wheel; earlier versions cannot by themselves
        "tabulate",
        "tqdm>=4.66",
    ],
    extras_require={
        "cityscapes": CITYSCAPES,
        "completion": COMPLETION,
        "dev": [
            *CITYSCAPES,
            *COMPLETION,
            *ONNX,
            *TIMM,
            "ipykernel>=6",
            "mypy>=1.15",
            "nbclient>=0.10",
            "pytest>=9.1",
            "pytest-timeout>=2",
            "pytest-xdist>=3.7",
            "ruff>=0.5",
        ],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.28", "ruff>=0.5"],  # ruff formats signatures
        "onnx": ONNX,  # for `pixpro-d2 convert --to onnx`
        "parquet": ["pyarrow>=14"],  # for `pixpro-d2 embed DATA OUT.parquet`
        "timm": TIMM,  # for MODEL.TIMM
        "wandb": ["wandb>=0.16"],  # for WANDB.ENABLED
    },
)
