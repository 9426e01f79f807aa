"""Start the processes of a run, and remove what a failed start leaves behind."""

import contextlib
import os
import signal
import sys
import time
import traceback
from multiprocessing import resource_tracker
from pathlib import Path

import torch
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch.distributed.elastic.multiprocessing.errors import record

from ..launch_arguments import check_arguments
from ..utils.errors import UsageError
from ..utils.signals import REQUEUE, StopSignals, requeue_when_stopped
from .configure import SEED_FILE, command_config, resolve_device
from .supervisor import ProcessGroup, in_torchrun, leave, supervise

MAX_REPORT = 10_000  # characters: less than a pipe holds, so that nobody waits until they are read


def launch(main, args):
    """Run ``main(args)`` in ``args.num_gpus`` processes on each of ``args.num_machines`` machines.

    Inside torchrun the processes are there already and these two counts do not matter; processes that it starts again
    after a failure resume. Everywhere else, one that fails ends those of its machine within seconds, and
    its error is the last thing that is printed.

    Exits with the code of the process that failed, with REQUEUE when a stop signal ended the run, and with the message
    for a mistake in arguments or config, before any process is started.

    Args:
        main (Callable[[Namespace], Any]): a function of a module. Ends with ``sys.exit(message)`` for errors that
            need no traceback.
        args (Namespace): of :func:`pixpro_d2.launch_arguments.argument_parser`.
    """
    try:
        check_arguments(args)
        cfg = command_config(args)
        resolve_device(cfg)
        group = ProcessGroup.from_config(cfg, args)
    except UsageError as error:
        sys.exit(f"error: {error}" if os.environ.get("RANK", "0") == "0" else 1)
    if in_torchrun():
        args.resume = args.resume or int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0
        group.join(int(os.environ["LOCAL_RANK"]))
        _run_joined(record(main), args)  # leaves an exception where torchrun finds it for its summary
        return
    with requeue_when_stopped():
        if group.world_size == 1:
            main(args)
        else:
            folder = Path(cfg.OUTPUT_DIR)
            is_new = not folder.exists()
            code, message = _run_processes(main, args, group)
            if is_new and message.startswith("error: "):  # a mistake, as against a traceback
                remove_failed_start(folder)
            if message:
                print(message, file=sys.stderr)
            sys.exit(code)


def _run_joined(main, args):
    """Run ``main(args)`` in a process that has joined its group, and leave the group unless there was an error."""
    code = 0
    try:
        with requeue_when_stopped():
            main(args)
    except SystemExit as end:
        if end.code != REQUEUE:
            raise
        code = REQUEUE  # alone: the exception refers to all that the run has left, and that to the group
    leave()
    if code:
        sys.exit(code)


def _run_processes(main, args, group):
    _start_resource_tracker()
    pipes = [mp.Pipe(duplex=False) for _ in range(group.local_size)]
    ranks = range(group.first_rank, group.first_rank + group.local_size)
    with StopSignals() as signals:  # before a process is there that would miss one
        senders = [sender for _, sender in pipes]
        context = mp.start_processes(_run_process, (main, args, group, senders), group.local_size, join=False)
        for sender in senders:  # so that a report that breaks off with its process has an end here
            sender.close()
        receivers = [receiver for receiver, _ in pipes]
        return supervise(dict(zip(ranks, context.processes)), dict(zip(ranks, receivers)), signals)


def _start_resource_tracker():
    """Start the helper process of Python's that keeps account of semaphores, so that stop signals do not end it."""
    former = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited; SIGTERM it ignores by itself
    resource_tracker.ensure_running()
    signal.signal(signal.SIGUSR1, former)


def _run_process(local_rank, main, args, group, senders):
    rank = group.first_rank + local_rank
    if group.backend == "gloo":
        torch.set_num_threads(max(1, torch.get_num_threads() // group.local_size))
    try:
        group.join(local_rank)
        _run_joined(main, args)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _report(senders[local_rank], f"{end.code} [rank {rank}]")
    except Exception:
        message = f"{traceback.format_exc()}error: rank {rank} failed with the exception above."
        _report(senders[local_rank], message)


def _report(sender, message):
    # At once, since the others notice only when the connections to this process close.
    if len(message) > MAX_REPORT:
        message = f"{message[: MAX_REPORT // 2]}\n[...]\n{message[-MAX_REPORT // 2 :]}"
    sender.send((time.time(), message))
    sys.exit(1)


WRITTEN = (
    "log.txt*",
    "config.yaml",
    "run.json",
    SEED_FILE,
    "metrics.json",
    "events.out.tfevents.*",
)  # before a run begins


@contextlib.contextmanager
def failed_start_removed(args):
    """Context of the start of a run; a UsageError in it removes the folder OUTPUT_DIR that the start has made.

    Of several processes none removes it, since others may be about to write there: their launcher does.
    """
    folder = Path(command_config(args).OUTPUT_DIR)
    is_new = comm.get_world_size() == 1 and not folder.exists()
    try:
        yield
    except UsageError:
        if is_new:
            remove_failed_start(folder)
        raise


def remove_failed_start(folder):
    """Remove the folder (Path) of a run if it holds nothing but what a run writes before its first iterations."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    if all(any(path.match(pattern) for pattern in WRITTEN) for path in files) and not _has_values(folder):
        for path in files:
            path.unlink()
        if folder.is_dir():
            folder.rmdir()


def _has_values(folder):
    metrics = folder / "metrics.json"
    return metrics.is_file() and metrics.stat().st_size > 0
