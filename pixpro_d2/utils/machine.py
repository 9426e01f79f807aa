"""What this process runs on: versions, commit, device, threads, memory."""

import math
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")  # of this process, in a container


def describe_machine(device: "torch.device") -> dict[str, str | int | None]:
    """Return versions, commit of this project, device and number of threads of this process."""
    import detectron2
    import torch
    import torchvision

    return {
        "pixpro_d2": __version__,
        "commit": commit_of(__file__),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def usable_cores() -> int:
    """Return the number of processor cores that this process may use, at most the quota of its container, rounded up.

    ``docker run --cpus`` and the limits of Kubernetes set quotas, and hide no cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(cores, _quota()))


def _quota() -> float:
    """Return the number of cores whose time the container may use, or infinity without a quota."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroups v2, v1
        try:
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in names).split())
        except (OSError, ValueError):  # no such file, or "max" for no quota
            continue
        if quota > 0:  # -1: no quota
            return quota / period
    return math.inf


def peak_memory(device: "torch.device") -> int:
    """Return the peak memory so far, in bytes.

    On a GPU, count the memory of tensors since the statistics were reset. On the CPU, count the whole process.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit_of(file: str) -> str | None:
    """Return the commit of the checkout that tracks a file, with "-dirty" behind it if the checkout has changes.

    A package that is installed somewhere inside another repository is not tracked by that repository. Return None if no
    repository tracks the file.
    """
    folder, name = os.path.split(os.path.abspath(file))
    git = ["git", "-C", folder]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", name], check=True, capture_output=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
