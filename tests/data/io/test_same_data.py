"""Processes that list other data than each other are refused, all of them."""

from detectron2.utils import comm
from distributed_helpers import in_processes

from pixpro_d2.data.io.file_list import FileList, joined
from pixpro_d2.data.io.same_data import check_same_data
from pixpro_d2.utils.errors import UsageError

NAMES = ["a.png", "b/c.png", "d.png"]


def _files(*names):
    return FileList.from_names(f"/machine{comm.get_rank()}", names)


def _records(*names, **keys):
    return [{"file_name": f"/machine{comm.get_rank()}/{name}", **keys} for name in names]


def told_by_each():
    """What the check says of data sets that depend on the rank."""
    rank = comm.get_rank()
    cases = [
        _files(*NAMES),
        _records(*NAMES),
        joined([_files("a.png"), _records("b.png")]),
        _files(*NAMES[: 3 - rank]),
        _files("a.png", ["b.png", "c.png"][rank]),
        _files(*[("ab", "c"), ("a", "bc")][rank]),
        _records(*NAMES[rank:]),
        _records("video", num_frames=5 + rank),
        joined([_files("a.png"), _records(["b.png", "c.png"][rank])]),
    ]
    return [_told(case) for case in cases]


def _told(dicts):
    try:
        check_same_data(dicts)
    except UsageError as error:
        return str(error)
    return ""


def test_of_two_processes(tmp_path):
    first, second = in_processes(tmp_path / "two", told_by_each)
    assert first == second and first[:3] == ["", "", ""]
    fewer = "DATASETS.TRAIN has 3 items for rank 0, and 2 items for rank 1: give all machines the same files"
    assert first[3].startswith(fewer) and first[6].startswith(fewer)
    for i, count in ((4, 2), (5, 2), (7, 1), (8, 2)):
        assert f"has {count} items for rank 0, and {count} items under other names for rank 1" in first[i]


def test_alone():
    check_same_data(_records(*NAMES))
