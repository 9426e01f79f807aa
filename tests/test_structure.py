"""The packages' floors: what imports what. ``python tests/structure.py`` prints the table."""

import pytest
from structure import PACKAGES, package_arrows, strongly_connected

# The ground floor, and the packages that only programs import.
GROUND = {"utils", "solver", "command_line", "config", "config_files", "launch_arguments", "starts"}
TOP = {"api", "cli", "commands", "completion", "extras", "tools", "__main__"}


@pytest.fixture(scope="module")
def arrows():
    return package_arrows()


def test_a_cycle_is_found():
    assert strongly_connected({("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1, ("c", "d"): 1}) == [{"a", "b", "c"}]
    assert strongly_connected({("a", "b"): 1, ("b", "c"): 1}) == []


def test_packages_have_no_cycle(arrows):
    assert strongly_connected(arrows) == []


def test_the_core_imports_neither_extras_nor_programs(arrows):
    assert {(a, b) for a, b in arrows if b in TOP and a not in TOP} == set()
    assert ("extras", "tools") not in arrows


def test_utils_import_nothing_of_the_package(arrows):
    assert {b for a, b in arrows if a == "utils"} == set()
    assert {b for a, b in arrows if a in GROUND} <= GROUND
    assert GROUND <= PACKAGES
