"""Functions run in several processes that talk by gloo, and whole training runs alone or shared by such processes."""

from datetime import timedelta

import torch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from forked import forkserver
from method_helpers import share

import configs
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.processes.process_group import ProcessGroup, leave


def in_processes(folder, function, *args, world_size=2, timeout=240):
    """What ``function(*args)`` returns in each of ``world_size`` processes of one group, by rank.

    Args:
        folder (Path): for files between the processes.
        function (Callable): of a module, as are those in ``args``.
        timeout (float): seconds after which what still runs is killed, and the call fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    group = ProcessGroup("gloo", f"file://{folder}/meeting", timedelta(seconds=timeout), 0, world_size, world_size)
    paths = [folder / f"{rank}.pt" for rank in range(world_size)]
    processes = [
        forkserver().Process(target=_save_result, args=(group, rank, path, function, args))
        for rank, path in enumerate(paths)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout)
    for process in processes:
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in processes] == [0] * world_size
    return [torch.load(path, weights_only=False) for path in paths]


def _save_result(group, rank, path, function, args):
    torch.set_num_threads(1)
    group.join(rank)
    torch.save(function(*args), path)
    comm.synchronize()  # none leaves while another may still be receiving what it sent
    leave()


class FixedBatches:
    """Loader of one process: its share of each of ``batches``."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return (share(batch, comm.get_rank(), comm.get_world_size()) for batch in self.batches)


def train(folder, config, opts, batches=None):
    """Train with everything that a run has, from one random start.

    Args:
        folder (Path): OUTPUT_DIR lies in it.
        config (str): of the pre-training configs, made small.
        opts (list): KEY, VALUE, ...
        batches (list[dict] or None): instead of those of DATASETS.TRAIN.

    Returns:
        dict: ``losses``, by name one for each iteration (in the main process), and ``model``, all tensors that
        are not large.
    """
    output = str(folder / f"{comm.get_world_size()}")
    cfg = configs.tiny("SOLVER.METRICS_PERIOD", 1, "OUTPUT_DIR", output, *opts, config=config)
    seed_all_rng(cfg.SEED + comm.get_rank())  # as detectron2 does: the others take over the main process's weights
    trainer = (trainer_of(batches) if batches else Trainer)(cfg)
    trainer.train()
    histories = trainer.storage.histories()
    losses = {name: [value for value, _ in x.values()] for name, x in histories.items() if "loss" in name}
    small = {name: x for name, x in trainer.checkpointer.model.state_dict().items() if x.numel() <= 50_000}
    return {"losses": losses, "model": small}


def trainer_of(batches):
    """Trainer on fixed batches."""

    class FixedTrainer(Trainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return FixedBatches(batches)

    return FixedTrainer


def train_all(folder, runs):
    """:func:`train` for each of ``runs``, name -> its arguments after the folder; returns its results by name."""
    return {name: train(folder / name, *run) for name, run in runs.items()}
