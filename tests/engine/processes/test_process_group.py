"""Where the processes of a run are, by arguments or by torchrun's environment."""

import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from data_helpers import logged
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import configs
from pixpro_d2.engine.processes.process_group import ProcessGroup, leave
from pixpro_d2.launch_arguments import argument_parser
from pixpro_d2.utils.errors import UsageError


def group(*words, opts=()):
    return ProcessGroup.from_config(configs.tiny(*opts), argument_parser().parse_args(list(map(str, words))))


def test_the_third_of_four_machines():
    words = ["--num-gpus", 8, "--num-machines", 4, "--machine-rank", 2, "--dist-url", "tcp://head:29500"]
    expected = ProcessGroup("gloo", "tcp://head:29500", timedelta(seconds=90), 16, 8, 32)
    assert group(*words, opts=["DISTRIBUTED.TIMEOUT_MINUTES", 1.5]) == expected


def test_one_machine_finds_a_port():
    url = group("--num-gpus", 2).url
    assert url.startswith("tcp://localhost:") and 0 < int(url.rpartition(":")[2]) < 2**16
    assert group("--num-gpus", 2, "--dist-url", "tcp://127.0.0.1:7").url == "tcp://127.0.0.1:7"


def test_torchrun_tells_all(monkeypatch):
    variables = {"RUN_ID": "x", "RESTART_COUNT": "3", "USE_AGENT_STORE": "True"}
    variables = {f"TORCHELASTIC_{name}": value for name, value in variables.items()}
    variables |= {"RANK": "13", "LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert group() == ProcessGroup("gloo", "env://", timedelta(minutes=30), 8, 8, 16, attempt=3)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")  # a store of its own for each attempt
    assert group().attempt == 0


def test_a_file_between_machines_is_warned_of():
    words = ["--num-machines", 2, "--dist-url", "file:///shared/meeting"]
    with logged("pixpro_d2.engine.processes.process_group") as messages:
        assert group(*words).url == "file:///shared/meeting"
    assert messages == ["file:// does not work reliably between machines; prefer --dist-url tcp://HOST:PORT."]


def test_a_gpu_for_each_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    on_gpu = ["MODEL.DEVICE", "cuda"]
    assert group("--num-gpus", 2, opts=on_gpu).backend == "nccl" and group("--num-gpus", 3).backend == "gloo"
    with pytest.raises(UsageError, match="3 processes on this machine need a GPU each, but PyTorch sees 2"):
        group("--num-gpus", 3, opts=on_gpu)


def gloo_threads():
    count = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):  # of a thread that has just ended
            count += "gloo" in path.read_text()
    return count


def test_who_leaves_keeps_no_thread_of_the_group(tmp_path):
    """Whatever referred to it: detectron2, or a model whose trainer is over and refers to itself."""
    before = gloo_threads()
    ProcessGroup("gloo", f"file://{tmp_path}/meeting", timedelta(seconds=60), 0, 1, 1).join(0)
    comm._get_global_gloo_group()
    model = DistributedDataParallel(nn.Linear(1, 1))
    model.trainer = [model]
    assert gloo_threads() > before
    del model
    leave()
    assert not torch.distributed.is_initialized()
    deadline = time.monotonic() + 20
    while gloo_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread that has been joined is still listed for a moment
    assert gloo_threads() <= before


def test_who_has_left_can_join_again(tmp_path):
    for attempt in range(2):
        group = ProcessGroup("gloo", f"file://{tmp_path}/{attempt}", timedelta(seconds=60), 0, 1, 1)
        group.join(0)
        assert comm.get_local_size() == 1 and comm.get_local_rank() == 0
        leave()
