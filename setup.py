"""Packaging of pixpro_d2. Ranges only; constraints.txt pins the tested set."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="pixpro_d2",
    version="0.1.0",
    description="PixPro dense self-supervised pre-training as a detectron2 project",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pixpro_d2", "pixpro_d2.*"]),
    package_data={"pixpro_d2.report": ["page.html", "page.css", "page.js"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "detectron2>=0.6",  # not on PyPI: tools/install_detectron2.py, or a build from its repository
        "fvcore>=0.1.5",
        "Jinja2>=3",  # the report's page
        "numpy>=1.23",
        "opencv-python-headless>=4.7",  # reads video, and estimates optical flow without weights
        "Pillow>=9.1",
        "pycocotools>=2.0.2",
        "cityscapesscripts>=2.2",  # detectron2's Cityscapes data sets read their labels with it
        "safetensors>=0.4",
        "shapely>=2",  # detectron2 reads Cityscapes' polygons with it
        "tabulate",
        "tqdm>=4.66",
    ],
    extras_require={
        "dev": ["ipykernel>=6", "nbclient>=0.10", "pytest>=8", "pytest-timeout>=2", "pytest-xdist>=3.7", "ruff>=0.5"],
        "wandb": ["wandb>=0.16"],  # for WANDB.ENABLED
    },
)
