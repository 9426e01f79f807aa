#!/usr/bin/env python
"""Install a Python-only detectron2 v0.6 where no detectron2 is importable.

detectron2 is not published on PyPI under its own name. The sdist ``pb1-detectron2`` 0.6 holds the
Python code of tag v0.6 without the C++ sources, so its own setup.py stops at the compiler. This
script downloads the sdist by hash and skips the extension. It replaces the few names that numpy,
Pillow and setuptools have dropped since, and installs the result as the distribution ``detectron2``.
Only the installed copy is changed: pixpro_d2 itself patches nothing at run time.

Parts that need the extension (deformable and rotated operators, the fast COCO evaluation) raise an
error that says so. An official build of detectron2 stays as it is.

    pixpro-d2 install-detectron2 [--constraint FILE | --find-official]
"""

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SDIST = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# Aliases of builtins that numpy >= 1.24 lacks.
NUMPY_ALIAS = re.compile(r"\bnp\.(bool|int|float|str|object)\b")

# (file, text at tag v0.6, replacement)
REPLACEMENTS = [
    ("data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR"),
    ("model_zoo/model_zoo.py", "import pkg_resources\n", "from importlib.resources import files\n"),
    (
        "model_zoo/model_zoo.py",
        'pkg_resources.resource_filename(\n        "detectron2.model_zoo", os.path.join("configs", config_path)\n    )',
        'str(files("detectron2.model_zoo").joinpath("configs", config_path))',
    ),
]

EXTENSION_STUB = '''"""Stands in for the compiled extension, which a Python-only installation lacks."""


def get_compiler_version():
    return "none (Python-only installation)"


def get_cuda_version():
    return "not available"


def has_cuda():
    return False


def __getattr__(name):
    raise AttributeError(
        f"detectron2._C.{name} is part of detectron2's compiled extension, which this Python-only "
        "installation lacks: build detectron2 from its repository to use it."
    )
'''

SETUP = """from setuptools import find_packages, setup

PROJECTS = {
    "detectron2.projects.point_rend": "projects/PointRend/point_rend",
    "detectron2.projects.deeplab": "projects/DeepLab/deeplab",
    "detectron2.projects.panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}
setup(
    name="detectron2",
    version="0.6",
    description="detectron2 v0.6, Python code only (no compiled extension)",
    url="https://github.com/facebookresearch/detectron2",
    license="Apache-2.0",
    packages=find_packages(include=["detectron2", "detectron2.*"]) + list(PROJECTS),
    package_dir=PROJECTS,
    package_data={"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]},
    install_requires=[
        "Pillow>=7.1",
        "matplotlib",
        "pycocotools>=2.0.2",
        "termcolor>=1.1",
        "yacs>=0.1.8",
        "tabulate",
        "cloudpickle",
        "tqdm>4.29.0",
        "tensorboard",
        "fvcore>=0.1.5,<0.1.6",
        "iopath>=0.1.7",
        "omegaconf>=2.1",
        "hydra-core>=1.1",
    ],
)
"""


def check_torch() -> None:
    """Check that torch and torchvision's compiled operators both load; otherwise exit with one sentence."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        sys.exit(f"PyTorch does not import ({error}): install torch and torchvision first, as in constraints.txt.")
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        sys.exit(
            f"torchvision cannot load its operators beside torch {torch.__version__} ({reason}): install the "
            "matching pair of builds from one source, for example `pip install torch==2.11.0 torchvision==0.26.0`."
        )


def installed_version() -> str | None:
    """Return the version of an importable detectron2; None if there is none.

    A folder of the name without ``__init__.py``, such as a clone of the repository, is importable, but is no package.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return None
    return importlib.import_module("detectron2").__version__


def find_official() -> bool:
    """Return whether an official build of detectron2 is installed, and print a line about it.

    Only an official build has the compiled extension.
    """
    try:
        spec = importlib.util.find_spec("detectron2._C")
    except ImportError:  # no detectron2
        spec = None
    found = spec is not None and not str(spec.origin).endswith(".py")
    if found:
        print("An official build of detectron2 is installed: it stays, with the PyTorch that it was built for.")
    return found


def run_pip(*arguments: str | Path, failure: str) -> None:
    """Run this interpreter's pip; after an error, print pip's output and exit with ``failure``."""
    if importlib.util.find_spec("pip") is None:
        sys.exit(
            "This environment has no pip: run `uv pip install pip` if uv made it, otherwise `python -m ensurepip`, and "
            "then this command again."
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout.strip()}\n{failure}")


def download(folder: Path) -> Path:
    """Download the sdist into ``folder``, check its hash and unpack it; return its folder."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST} --hash=sha256:{SHA256}\n")
    run_pip(
        "download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", "pb1-detectron2",
        "--require-hashes", "-r", requirements, "-d", folder,
        failure=f"Could not download {SDIST} from the package index: check the network (or pip's index settings) "
        "and run this again, or build detectron2 from its repository.",
    )  # fmt: skip
    # Python 3.10.0-3.10.11 and 3.11.0-3.11.3 have no filters; the hash already vouches for the archive.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(next(folder.glob("pb1*detectron2-0.6.tar.gz"))) as archive:
        archive.extractall(folder, **options)
    return next(path for path in folder.iterdir() if path.is_dir())


def patch(source: Path) -> None:
    """Turn the unpacked sdist ``source`` into a Python-only package, in place."""
    package = source / "detectron2"
    for path in [*package.rglob("*.py"), *(source / "projects").rglob("*.py")]:
        text = path.read_text()
        if NUMPY_ALIAS.search(text):
            path.write_text(NUMPY_ALIAS.sub(r"\1", text))
    for name, old, new in REPLACEMENTS:
        path = package / name
        text = path.read_text()
        if old not in text:
            sys.exit(f"{name} of {SDIST} does not hold the expected text {old!r}: this script is out of date.")
        path.write_text(text.replace(old, new))
    (package / "_C.py").write_text(EXTENSION_STUB)
    (source / "setup.py").write_text(SETUP)
    (source / "setup.cfg").unlink(missing_ok=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="pixpro-d2 install-detectron2", description=__doc__.splitlines()[0])
    parser.add_argument("--constraint", type=Path, help="pip constraints file for detectron2's dependencies")
    parser.add_argument(
        "--find-official", action="store_true", help="only look: exit with 0 if an official build is there, else with 1"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``; by default the command line of this process."""
    args = build_parser().parse_args(argv)
    if args.find_official:
        sys.exit(not find_official())
    check_torch()
    version = installed_version()
    if version is not None:
        print(f"detectron2 {version} is installed already; left as it is.")
        return
    with tempfile.TemporaryDirectory() as folder:
        source = download(Path(folder))
        patch(source)
        constraint = ["-c", args.constraint] if args.constraint else []
        run_pip(
            "install", "-q", "--no-build-isolation", *constraint, source,
            failure="pip could not install detectron2 or one of its dependencies; its message is above.",
        )  # fmt: skip
    print("Installed detectron2 0.6 (Python only).")


if __name__ == "__main__":
    main()
