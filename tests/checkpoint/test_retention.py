"""Which checkpoints are deleted."""

import pytest
from checkpoint_helpers import model_at, save

from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.retention import remove_superseded, superseded


def names(*iterations):
    return [f"model_{iteration:07d}.pth" for iteration in iterations]


@pytest.mark.parametrize(
    "keep_last, keep_every, deleted",
    [
        (0, 0, ()),
        (0, 200, ()),
        (1, 0, (99, 199, 249, 299)),
        (2, 0, (99, 199, 249)),
        (5, 0, ()),
        (9, 0, ()),
        (1, 100, (249,)),
        (1, 200, (99, 249, 299)),
        (3, 200, (99,)),
        (1, 150, (99, 249)),  # after 200, the first at or after 150, and 300
        (1, 240, (99, 199, 299)),
    ],
)
def test_superseded(keep_last, keep_every, deleted):
    """model_0000199.pth is the state after 200 iterations."""
    files = [*names(399, 99, 299, 199, 249), "model_final.pth", "model_best.pth", "model_0000049.pth.tmp", "log.txt"]
    assert superseded(files, keep_last, keep_every) == names(*deleted)


def test_iterations_of_more_digits_are_later():
    assert superseded(names(10000000, 9999999), 1, 0) == names(9999999)


def remaining(folder, *args):
    remove_superseded(folder, *args)
    return sorted(path.name for path in folder.iterdir())


def test_only_superseded_files_go(tmp_path):
    save(tmp_path, 1, 3, 5, 7)
    (tmp_path / "metrics.json").touch()
    (tmp_path / "model_best.pth").touch()
    rest = ["last_checkpoint", "metrics.json", "model_best.pth"]
    assert remaining(tmp_path, 0, 0) == [*rest[:2], *names(1, 3, 5, 7), rest[2]]
    assert remaining(tmp_path, 2, 4) == [*rest[:2], *names(3, 5, 7), rest[2]]
    PixProCheckpointer(model_at(7), str(tmp_path)).save("model_final", iteration=7)
    assert remaining(tmp_path, 1, 0) == [*rest[:2], *names(7), rest[2], "model_final.pth"]


def test_what_an_earlier_run_left_does_not_count(tmp_path):
    """A run that began anew at iteration 0 keeps its own two last ones, and all of the other's later ones."""
    save(tmp_path, 29, 39, 1, 3, 5)
    assert remaining(tmp_path, 2, 0) == ["last_checkpoint", *names(3, 5, 29, 39)]
    save(tmp_path, 29)  # now it has come there itself
    assert remaining(tmp_path, 2, 0) == ["last_checkpoint", *names(5, 29, 39)]


def test_final_checkpoint_supersedes_up_to_its_own_iteration(tmp_path):
    save(tmp_path, 1, 3, 5, 39)
    PixProCheckpointer(model_at(5), str(tmp_path)).save("model_final", iteration=5)
    assert remaining(tmp_path, 1, 0) == ["last_checkpoint", *names(5, 39), "model_final.pth"]
