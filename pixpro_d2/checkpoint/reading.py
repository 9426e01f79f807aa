"""Read files of weights without running code that a file contains."""

import argparse
import codecs
import errno
import json
import os
import pickle
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import safetensors
import torch

from ..utils.errors import UsageError
from ..weights_files import known_weights
from .mistaken_files import describe_mistaken

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # start of a pickle of protocol 2 and later
# What pickles of tensors call. PyTorch's safe loader reads the first two in files of torch.save.
_PICKLED_TENSORS = (
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes",
)
_LEGACY = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)  # start of a file before PyTorch 1.6


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a ``.pth``, ``.pt``, ``.pth.tar``, ``.pkl`` or ``.safetensors`` file, with tensors on the CPU.

    The contents determine the kind of file. The tensors of a safetensors file become the entry ``model``. The metadata
    ``input`` (JSON), which this project writes, becomes an entry of its own.

    Returns:
        The dictionary in the file.

    Raises:
        UsageError: if the file is missing, damaged, no dictionary, or asks for anything but weights.
    """
    _check_is_file(path)
    mistaken = describe_mistaken(path)
    if mistaken:
        raise UsageError(f"{path} is {mistaken}.")
    try:
        checkpoint = _read(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise UsageError(f"{path} is not a readable checkpoint (it is cut off).") from error  # PyTorch raises EINVAL
    except _Refused as error:
        if str(error) in _PICKLED_TENSORS:
            raise UsageError(
                f"{path} holds tensors that pickle wrote instead of torch.save: load the file by pickle, where you "
                "trust it, and write the same dictionary by torch.save."
            ) from None
        raise UsageError(
            f"{path} was refused: it asks for {error}, which weights do not need and which could run code; save its "
            "tensors alone (a state dict), where you trust it."
        ) from None
    except Exception as error:  # the decoders may raise any exception for bytes that are no checkpoint
        raise UsageError(
            f"{path} is not a readable checkpoint ({_reason(error)}): fetch or write the file anew."
        ) from error
    if not isinstance(checkpoint, dict):
        raise UsageError(f"{path} holds a {type(checkpoint).__name__} instead of a dictionary of weights.")
    return checkpoint


def _check_is_file(path: str) -> None:
    """Raise a UsageError unless ``path`` is a file."""
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: name a file of weights in it.")
    if not os.path.isfile(path):
        raise UsageError(f"There is no checkpoint {os.path.abspath(path)}{known_weights(path)}.")


def _read(path: str) -> Any:
    with open(path, "rb") as file:
        start = file.read(max(len(_LEGACY), 9))
    header_fits = int.from_bytes(start[:8], "little") < os.path.getsize(path)  # the length of the header comes first
    named = path.endswith(".safetensors") and not start.startswith((_ZIP, _PICKLE))
    if named or (start[8:9] == b"{" and header_fits):
        return _read_safetensors(path)
    if start.startswith(_ZIP) or start == _LEGACY:
        return _read_torch(path)
    with open(path, "rb") as file:
        return _PlainUnpickler(file, encoding="latin1").load()  # latin1: arrays pickled by Python 2


def _read_safetensors(path: str) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as file:
        checkpoint: dict[str, Any] = {"model": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118 not a dict
        metadata = file.metadata() or {}
    if "input" in metadata:
        checkpoint["input"] = json.loads(metadata["input"])
    return checkpoint


def _read_torch(path: str) -> Any:
    allowed: list[Any] = [(value, name) for name, value in _ALLOWED.items()] + _NUMERIC_DTYPES
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise _Refused(refused[1]) from error
        raise


class _Refused(pickle.UnpicklingError):
    """Name the type or function that a file must not use."""


class _PlainUnpickler(pickle.Unpickler):
    """Build numbers, strings, containers and NumPy arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise _Refused(full_name)
        return _ALLOWED[full_name]


def _plain_dtype(*args: Any) -> np.dtype:
    """Build an np.dtype of plain values; refuse objects, because forged arrays of objects hold arbitrary pointers."""
    dtype = np.dtype(*args)
    if dtype.hasobject or dtype.fields:
        raise _Refused(f"arrays of type {dtype}")
    return dtype


_ALLOWED: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,  # official PixPro checkpoints hold their options
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,  # Python 3 writes bytes for Python 2 by this function
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": _plain_dtype,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _ALLOWED[f"{_core}.multiarray._reconstruct"] = np.empty(0).__reduce__()[0]
    _ALLOWED[f"{_core}.multiarray.scalar"] = np.float64(0).__reduce__()[0]
    _ALLOWED[f"{_core}.numeric._frombuffer"] = np.empty(1).__reduce_ex__(5)[0]
_NUMERIC_DTYPES = [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]


def _reason(error: Exception) -> str:
    """Return the line with the reason of an error, after the advice of PyTorch's safe loader to load unsafely."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    return text.splitlines()[0].split(". ")[0].removesuffix(".") if text else type(error).__name__
