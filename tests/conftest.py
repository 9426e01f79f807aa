"""What all tests share: the threads of a worker of pytest-xdist, no processes left, and what is said at the end."""

import collections
import gc
import multiprocessing
import os
import shutil

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports PyTorch; several workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("DETECTRON2_DATASETS", None)  # before anything imports detectron2; the tests have data of their own


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """End the workers of a loader after a test in which a worker has failed.

    The error and its traceback refer to each other and to the loader, so that only the garbage collector frees the
    loader: during any later test, which then waits 5 seconds for each worker.
    """
    if multiprocessing.active_children():
        for item in gc.get_objects():
            if type(item).__name__ == "_MultiProcessingDataLoaderIter":
                item._shutdown_workers()


@pytest.fixture(scope="module", autouse=True)
def remove_shared_files(request, tmp_path_factory):
    """Remove the folders that the fixtures of a file share when its tests are over, unless one has failed.

    pytest removes them at the end of the whole suite, when their checkpoints have added up to several GB.
    """
    failed = request.session.testsfailed
    before = set(tmp_path_factory.getbasetemp().iterdir())
    yield
    if request.session.testsfailed == failed:
        for path in set(tmp_path_factory.getbasetemp().iterdir()) - before:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)


def pytest_terminal_summary(terminalreporter):
    """Print how many commands of the documentation were run, and why the others were only checked."""
    pages = collections.defaultdict(list)
    for report in terminalreporter.getreports("passed"):
        for page, reason in (value for name, value in report.user_properties if name == "command"):
            pages[page].append(reason)
    if pages:
        terminalreporter.section("commands of the documentation")
        for page, reasons in {"all": sum(pages.values(), []), **pages}.items():
            terminalreporter.write_line(f"{page}: {_counts(reasons)}")


def _counts(reasons):
    checked = [reason for reason in reasons if reason]
    listed = f" ({', '.join(sorted(set(checked)))})" if checked else ""
    return f"{len(reasons) - len(checked)} run, {len(checked)} only checked{listed}"
