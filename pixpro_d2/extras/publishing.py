"""Write the weights of a run's checkpoint with their metadata."""

import os
import subprocess
from pathlib import Path
from typing import Any

import torch

from ..checkpoint.convention import InputConvention
from ..checkpoint.reading import read_checkpoint
from ..checkpoint.tensors import check_tensors
from ..engine.configuration.configure import load_config
from ..utils.errors import UsageError
from ..utils.files import check_folder_of, report_write_errors, write_file


def publish(
    checkpoint_path: str,
    out: str | None = None,
    config_file: str | None = None,
    licence: str = "Apache-2.0",
    commit: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Write the weights of a checkpoint with their metadata.

    The file has three entries: ``model`` (both branches and heads, as trained), ``input`` (the convention that
    downstream configs are checked against) and ``metadata``. The metadata are ``config`` (YAML), ``iterations``,
    ``datasets`` (list), ``git_commit`` and ``licence``. ``torch.load(weights_only=True)`` reads the file.

    Args:
        checkpoint_path: checkpoint of a run of train_net.py.
        out: file to write, whose name gets a hash; by default beside the checkpoint.
        config_file: config of the run; by default ``config.yaml`` beside the checkpoint.
        licence: licence of the weights.
        commit: commit of the code that trained the weights; by default the commit of this checkout.

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
        "git_commit": commit or commit_of(__file__),
        "licence": licence,
    }
    convention = InputConvention.from_dict(checkpoint.get("input")) or InputConvention.from_config(cfg)
    contents = {"model": checkpoint["model"], "input": convention.to_dict(), "metadata": metadata}
    with report_write_errors(str(out)):
        return write_file(out, lambda partial: torch.save(contents, partial), with_hash=True), metadata


def commit_of(file: str) -> str:
    """Return the commit of the checkout that tracks a file, with "-dirty" behind it if the checkout has changes.

    A package that is installed somewhere inside another repository is not tracked by that repository.

    Raises:
        UsageError: if no repository tracks the file.
    """
    folder, name = os.path.split(os.path.abspath(file))
    git = ["git", "-C", folder]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", name], check=True, capture_output=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"{folder} is in no git checkout of this project: name the commit that trained the weights with --commit."
        ) from error
