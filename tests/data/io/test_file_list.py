"""Millions of file names: what a list of them gives, its memory, and data sets that are joined."""

import os
import pickle

import pytest
from detectron2.data.common import DatasetFromList

from pixpro_d2.data.io.file_list import FileList, JoinedLists, ShardList, joined, to_shared_list

NAMES = ["a.png", "b/ä ö.png", "b/日本.jpg", "", "c\n/x y.png", os.fsdecode(b"latin-\xe4.png")]


def _dicts(root, names):
    return [{"file_name": f"{root}/{name}", "image_id": i} for i, name in enumerate(names)]


def test_a_list_is_as_one_of_dicts():
    files, expected = FileList.from_names("/root", iter(NAMES)), _dicts("/root", NAMES)
    assert len(files) == len(expected) and list(files) == expected
    for index in range(-len(NAMES), len(NAMES)):
        assert files[index] == expected[index]
    for part in (slice(None), slice(2), slice(-2, None), slice(1, 5, 2), slice(None, None, -1), slice(9, 12)):
        assert files[part] == expected[part]
    for index in (len(NAMES), -len(NAMES) - 1):
        with pytest.raises(IndexError):
            files[index]
    assert os.fsencode(files[5]["file_name"]) == b"/root/latin-\xe4.png"  # so that it can be opened
    assert list(pickle.loads(pickle.dumps(files))) == expected


def test_shards_know_their_sizes():
    names = ["a@/0.tar@/1+2/a.png", "a@/0.tar@/3+4/b@.png", "a@/2.tar@/5+6/c.png"]
    files = ShardList(FileList.from_names("/root", names), [f"a@/{i}.tar" for i in range(4)])
    assert files.sizes == [2, 0, 1, 0] and list(files) == _dicts("/root", names)
    again = pickle.loads(pickle.dumps(files))
    assert again.sizes == files.sizes and to_shared_list(files) is files


def test_an_item_may_be_changed():
    files = FileList.from_names("/root", NAMES)
    files[0]["file_name"] = "other"
    assert files[0] == {"file_name": "/root/a.png", "image_id": 0}


def test_an_empty_list():
    files = FileList.from_names("/root", [])
    assert not files and list(files) == [] and files[:3] == []


def test_the_memory_is_that_of_the_names():
    names = [f"{i:030d}" for i in range(1000)]
    assert FileList.from_names("/a/long/path/to/the/folder", names).num_bytes == 1000 * (30 + 8)


def _private_megabytes():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty")) / 1e3


def _growth_in_a_fork(dicts):
    """Megabytes that a forked process copies by looking at all ``dicts``."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = _private_megabytes()
        assert sum(len(record["file_name"]) for record in dicts) > 0
        os.write(writer, b"%d" % (1000 * (_private_megabytes() - before)))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader) as result:
        os.close(writer)
        return int(result.read()) / 1000


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_forked_processes_share_the_names():
    names = [f"{i:0120d}" for i in range(100_000)]
    files = FileList.from_names("/root", names)
    assert files.num_bytes > 12e6
    assert _growth_in_a_fork(files) < 2
    assert _growth_in_a_fork(list(files)) > 12  # a list of dicts, of which each page is copied


def test_joining():
    files, first, second = FileList.from_names("/root", NAMES), [{"file_name": "x"}], [{"file_name": "y"}]
    assert joined([first]) is first and joined([files]) is files
    assert joined([first, second]) == [*first, *second]
    both = joined([first, files, second])
    expected = [*first, *files, *second]
    assert isinstance(both, JoinedLists) and both.datasets[1] is files
    assert len(both) == len(expected) and list(both) == expected
    assert both[-1] == expected[-1] and both[:3] == expected[:3] and both[-2:] == expected[-2:]


def test_what_is_shareable_is_not_copied():
    files, dicts = FileList.from_names("/root", NAMES), [{"file_name": "x"}, {"file_name": "y"}]
    assert to_shared_list(files) is files
    shared = to_shared_list(dicts)
    assert isinstance(shared, DatasetFromList) and list(map(shared.__getitem__, (0, 1))) == dicts
    both = to_shared_list(joined([files, dicts]))
    assert both.datasets[0] is files and isinstance(both.datasets[1], DatasetFromList)
    assert list(map(both.__getitem__, range(len(both)))) == [*files, *dicts]
