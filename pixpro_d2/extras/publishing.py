"""Write the weights of a run's checkpoint with their metadata."""

import os
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import class_names
from ..checkpoint.convention import InputConvention
from ..checkpoint.reading import read_checkpoint
from ..checkpoint.tensors import check_tensors
from ..engine.configuration.configure import load_config
from ..monitoring.run_record import FILE, read_starts
from ..utils.errors import UsageError
from ..utils.files import check_folder_of, report_write_errors, write_file
from ..utils.machine import commit_of


def publish(
    checkpoint_path: str,
    out: str | None = None,
    config_file: str | None = None,
    licence: str = "Apache-2.0",
    commit: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Write the weights of a checkpoint with their metadata.

    The file has the entries ``model`` (both branches and heads, as trained), ``input`` (the convention that downstream
    configs are checked against), ``metadata``, and ``classes`` if the model has learned named classes. The metadata are
    ``config`` (YAML), ``iterations``, ``datasets`` (list), ``git_commit`` and ``licence``.
    For a run of an installed package without a checkout, ``git_commit`` is the version: ``pixpro_d2 0.1.0``.
    ``torch.load(weights_only=True)`` reads the file.

    Args:
        checkpoint_path: checkpoint of a run of train_net.py.
        out: file to write, whose name gets a hash; by default beside the checkpoint.
        config_file: config of the run; by default ``config.yaml`` beside the checkpoint.
        licence: licence of the weights.
        commit: commit of the code that trained the weights; by default the commit that the run recorded.

    Returns:
        Path of the file and its metadata.

    Raises:
        UsageError: if the checkpoint is not of a run, or metadata cannot be found.
    """
    checkpoint = read_checkpoint(checkpoint_path)
    if "model" not in checkpoint or "iteration" not in checkpoint:
        raise UsageError(f"{checkpoint_path} is no checkpoint of a run: it needs entries 'model' and 'iteration'.")
    check_tensors(checkpoint["model"], checkpoint_path)
    out = out or str(Path(checkpoint_path).with_suffix(".pth"))
    if not out.endswith((".pth", ".pt")):
        raise UsageError(f"{out} must end in .pth or .pt.")
    check_folder_of(out)
    config_file = config_file or os.path.join(os.path.dirname(checkpoint_path), "config.yaml")
    if not os.path.isfile(config_file):
        raise UsageError(f"There is no config {config_file}: name the run's with --config-file.")
    cfg = load_config(config_file, [])
    metadata = {
        "config": cfg.dump(),
        "iterations": int(checkpoint["iteration"]) + 1,  # `iteration` is the last finished iteration, from 0
        "datasets": list(cfg.DATASETS.TRAIN),
        "git_commit": commit or _trained_by(os.path.dirname(checkpoint_path)),
        "licence": licence,
    }
    convention = InputConvention.from_dict(checkpoint.get("input")) or InputConvention.from_config(cfg)
    contents = {"model": checkpoint["model"], "input": convention.to_dict(), "metadata": metadata}
    if class_names.KEY in checkpoint:
        contents[class_names.KEY] = checkpoint[class_names.KEY]
    with report_write_errors(str(out)):
        return write_file(out, lambda partial: torch.save(contents, partial), with_hash=True), metadata


def _trained_by(folder: str) -> str:
    """Return the commit or else the version that the last training in ``folder`` recorded.

    Without a record, return the commit of this checkout.

    Raises:
        UsageError: if neither is known.
    """
    starts = [start for start in read_starts(Path(folder)) if "--eval-only" not in start["command"]]
    machine = starts[-1]["machine"] if starts else {}
    commit = machine["commit"] if "commit" in machine else commit_of(__file__)  # runs of earlier versions have none
    if commit is None and "pixpro_d2" in machine:
        return f"pixpro_d2 {machine['pixpro_d2']}"
    if commit is None:
        raise UsageError(
            f"Neither {os.path.join(folder, FILE)} nor a git checkout tells the code of the training: name the commit "
            "that trained the weights with --commit."
        )
    return commit
