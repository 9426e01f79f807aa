"""Rendered data sets for the tests."""

import pytest

from pixpro_d2.extras.scenes.render_dataset import render_dataset


def render_once(**options):
    """Return a module's fixture of the folder of a data set, rendered with ``options`` of ``render_dataset``."""

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory):
        out = tmp_path_factory.mktemp("rendered") / "scenes"
        render_dataset(out, **options)
        return out

    return folder


def files_of(folder):
    """Return the bytes of each file below a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
