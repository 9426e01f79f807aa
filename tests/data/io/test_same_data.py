"""Processes that list other data than each other are refused, all of them."""

from data_helpers import make_cfg, write_images
from detectron2.utils import comm
from distributed_helpers import in_processes
from stream_helpers import stream_cfg, write_boxes

from pixpro_d2.data.downstream.build import build_train_loader
from pixpro_d2.data.io.file_list import FileList, joined
from pixpro_d2.data.io.same_data import check_same_data
from pixpro_d2.data.pretrain.loader import build_view_loader
from pixpro_d2.utils.errors import UsageError

NAMES = ["a.png", "b/c.png", "d.png"]


def _files(*names):
    return FileList.from_names(f"/machine{comm.get_rank()}", names)


def _records(*names, **keys):
    return [{"file_name": f"/machine{comm.get_rank()}/{name}", **keys} for name in names]


def told_by_each(folder):
    """What the check, and both loaders, say of data sets that depend on the rank."""
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
    write_images(folder / f"images {rank}", 5 + rank)
    boxes = stream_cfg(write_boxes(folder / f"boxes {rank}", 6 + rank))
    return [
        *(_told(check_same_data, case) for case in cases),
        _told(build_view_loader, make_cfg(f"images:{folder}/images {rank}")),
        _told(build_train_loader, boxes),
    ]


def _told(function, argument):
    try:
        function(argument)
    except UsageError as error:
        return str(error)
    return ""


def test_of_two_processes(tmp_path):
    first, second = in_processes(tmp_path / "two", told_by_each, tmp_path)
    assert first == second and first[:3] == ["", "", ""]
    fewer = "DATASETS.TRAIN has 3 items for rank 0, and 2 items for rank 1: complete the copies of the data, "
    assert first[3].startswith(fewer) and first[6].startswith(fewer)
    for i, count in ((4, 2), (5, 2), (7, 1), (8, 2)):
        words = f"{count} items with other names or in another order for rank 1"
        assert f"has {count} items for rank 0, and {words}" in first[i]
    assert "has 5 items for rank 0, and 6 items for rank 1" in first[9]
    assert "has 6 items for rank 0, and 7 items for rank 1" in first[10]


def test_alone():
    check_same_data(_records(*NAMES))
