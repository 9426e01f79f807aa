"""Load MODEL.WEIGHTS: give a new model the weights of a file, in any format of :mod:`.formats`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException

from detectron2.utils.file_io import PathManager
from torch import nn

from ..utils.errors import UsageError
from .class_names import check_class_names
from .convention import InputConvention, as_options
from .coverage import check_complete, check_trunk, describe_pyramid, describe_transfer
from .formats import Source, read_weights
from .tensors import check_tensors
from .timm_networks import network_of
from .transfer import fit, match_suffixes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Initialization:
    """Report which weights a model got from a file.

    Attributes:
        path: path or address of the file; "" for random weights.
        loaded: names of the model's tensors that are in the file.
        missing: names of the model's parameters that are not in the file and keep their values.
        summary: the line of the log.
        convention: input convention of the weights; None if unknown.
    """

    path: str
    loaded: frozenset[str]
    missing: frozenset[str]
    summary: str
    convention: InputConvention | None = None


def initialize(
    model: nn.Module,
    path: str,
    *,
    convention: InputConvention | None = None,
    allow_partial: bool = False,
    frozen: bool = False,
    complete: bool = False,
    classes: Sequence[str] | None = None,
) -> Initialization:
    """Load the weights of a file into a model, and log one line on the loaded weights.

    The file may hold another model with the same backbone, such as a pre-training for a detector. No code from the file
    runs.

    Args:
        model: the model, not wrapped for several processes.
        path: path, short name (:func:`.weights_files.weights_path`) or address; "" to keep the random weights.
        convention: input convention of the model; a file with another convention is an error, and a file of unknown
            convention gives a warning. None: no check.
        allow_partial: accept a file whose backbone matches the model's only in part.
        frozen: refuse such a file despite ``allow_partial``, because the backbone is not trained.
        complete: refuse a file that leaves any weight of the model random or has other classes, for an evaluation.
        classes: names of the model's classes, for ``complete``.

    Raises:
        UsageError: if the file is missing, damaged or unsafe, if the address cannot be reached, or if the weights do
            not fit the model. The model is unchanged then.
    """
    parameters = frozenset(name for name, _ in model.named_parameters())
    if not path:
        summary = "MODEL.WEIGHTS is empty: the weights are random."
        logger.info(summary)
        return Initialization("", frozenset(), parameters, summary)
    source = read_weights(_local_path(path), network_of(model))
    own = model.state_dict()
    transfer = fit(match_suffixes(source.state, own) if source.match_suffixes else source.state, own)
    if complete:
        check_class_names(source.classes, classes, path)
    _check_convention(path, source, convention)  # before the trunk, because its error names the values of the keys
    check_trunk(path, source, own, transfer, allow_partial, frozen)
    check_tensors(transfer.state, path)
    if complete:
        check_complete(path, source, own, transfer)
    model.load_state_dict(transfer.state, strict=False)
    summary = describe_transfer(path, source, own, transfer)
    logger.info(summary)
    if pyramid := describe_pyramid(path, source, own):
        logger.warning(pyramid)
    if convention and not source.convention:
        logger.warning(
            f"MODEL.WEIGHTS {path} does not tell its input, and other input gives bad results: compare INPUT.FORMAT, "
            "MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and MODEL.RESNETS.STRIDE_IN_1X1 with the config of its training."
        )
    loaded = frozenset(transfer.state)
    return Initialization(path, loaded, parameters - loaded, summary, source.convention)


def _local_path(path: str) -> str:
    """Return the path of detectron2's local copy of an address; return any other path as it is."""
    if "://" not in path:
        return path
    try:
        return PathManager.get_local_path(path)
    except (OSError, ValueError, RuntimeError, HTTPException) as error:  # network, address, detectron2's catalog
        raise UsageError(
            f"MODEL.WEIGHTS {path} cannot be downloaded ({error}): check the address and the network, or fetch the "
            "file by other means and name its path."
        ) from error


def _check_convention(path: str, source: Source, ours: InputConvention | None) -> None:
    theirs = source.convention
    keys = theirs.keys_to_set(ours) if theirs and ours else {}
    if keys:
        tag = "" if source.knows_input else ", or add the tag of weights with another input to MODEL.TIMM.NAME"
        raise UsageError(
            f"MODEL.WEIGHTS {path} was trained with {theirs}, unlike this config: set {as_options(keys)}{tag}."
        )
