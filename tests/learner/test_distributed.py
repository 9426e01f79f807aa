"""The learner under DistributedDataParallel."""

import pytest
import torch
from forked import forkserver
from learner_helpers import train_distributed


@pytest.mark.parametrize("freeze", [False, True], ids=["find_unused_parameters", "freeze_unused"])
def test_two_processes_stay_together(tmp_path, freeze):
    paths = [tmp_path / f"{rank}.pt" for rank in range(2)]
    arguments = [(rank, 2, tmp_path / "meeting", freeze, path) for rank, path in enumerate(paths)]
    processes = [forkserver().Process(target=train_distributed, args=args) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    first, second = (torch.load(path) for path in paths)
    assert all(torch.equal(value, second["model"][name]) for name, value in first["model"].items())
    assert max(first["pairs"]) > 0 and second["pairs"] == [0, 0, 0]
    moved = (first["model"]["backbone.net.stem.0.weight"] - first["model"]["target_backbone.net.stem.0.weight"]).abs()
    assert moved.max() > 0
