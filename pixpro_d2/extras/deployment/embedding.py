"""Compute the features of images with the backbone of a checkpoint, and write them row by row."""

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from ...config import default_config
from ...data.datasets.catalog import ensure_registered, load_dicts
from ...data.io.reader import read_image, restrict_pillow
from ...data.io.workers import build_loader
from ...data.pretrain.photometric import to_array
from ...utils.errors import UnreadableImage, UsageError
from ...utils.files import check_folder_of, report_write_errors, write_file
from ...utils.retry import Patience
from .network import FeatureNetwork, load_network

logger = logging.getLogger(__name__)

MARGIN = 256 / 224  # short side of the resized image, as a multiple of the side of its centre, as ImageNet's recipes
NPY, PARQUET = ".npy", ".parquet"
Batches = Iterator[np.ndarray]


def embed(
    data: str,
    out: str,
    weights: str,
    *,
    feature: str = "",
    pool: str = "mean",
    size: int = 224,
    batch: int = 32,
    workers: int = 0,
    device: str = "",
    half: bool = False,
    branch: str = "online",
    config_file: str = "",
) -> tuple[int, tuple[int, ...], int]:
    """Write the features of the images of a data set, in its order.

    Args:
        data: name of a data set of images.
        out: file to write: ``.npy`` with the names of the images beside it in ``.txt``, or ``.parquet``.
        weights, branch, config_file: see :func:`.network.load_network`.
        feature: feature of the backbone, such as ``p3``; "" for the last one below an FPN.
        pool: ``mean`` for a vector of each image, ``none`` for a map.
        size: side of the square that is cut from the centre of an image.
        batch: images at a time.
        workers: processes that read images.
        device: ``cuda`` or ``cpu``; "" chooses.
        half: write float16 in place of float32.

    Returns:
        Number of images, shape of a row, and number of images that cannot be read, whose rows are NaN.

    Raises:
        UsageError: for a mistake in the arguments.
    """
    suffix = Path(out).suffix
    if suffix not in (NPY, PARQUET):
        raise UsageError(f"{out} must end in {NPY} or {PARQUET}.")
    if suffix == PARQUET and find_spec("pyarrow") is None:
        raise UsageError(f"{out} needs pyarrow: run `pip install pyarrow`, or name a file that ends in {NPY}.")
    check_folder_of(out)
    ensure_registered([data])
    images = load_dicts(data)
    if "num_frames" in images[0]:
        raise UsageError(f"Data set '{data}' has videos: name the folder of their frames as images:DIR.")
    names = [os.fspath(image["file_name"]) for image in images]
    encoded = _encode_names(names, out, suffix)
    network = load_network(weights, branch, config_file, with_fpn=feature.startswith("p"))
    feature = feature or network.names[-1]
    if feature not in network.names:
        raise UsageError(f"--feature is '{feature}'; the backbone of {weights} has {', '.join(network.names)}.")
    if size % network.divisor:
        raise UsageError(f"--size is {size}; it must be a multiple of {network.divisor}.")
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    unreadable: list[int] = []
    dtype = np.float16 if half else np.float32
    rows = _rows(network, feature, pool == "mean", images, size, batch, workers, dtype, unreadable.append)
    write = _write_npy if suffix == NPY else _write_parquet
    shapes: list[tuple[int, ...]] = []
    with report_write_errors(out):
        write_file(out, lambda partial: shapes.append(write(partial, names, rows)))
        if suffix == NPY:
            lines = b"".join(name + b"\n" for name in encoded)
            write_file(str(Path(out).with_suffix(".txt")), lambda partial: Path(partial).write_bytes(lines))
    return len(names), shapes[0], sum(unreadable)


def _encode_names(names: Sequence[str], out: str, suffix: str) -> list[bytes]:
    """Encode the names of the images: for a list of lines in the encoding of the file system, for Parquet in UTF-8.

    Raises:
        UsageError: for a name that the list or the table cannot hold.
    """
    encode: Callable[[str], bytes] = os.fsencode if suffix == NPY else str.encode
    other = PARQUET if suffix == NPY else NPY
    encoded = []
    for name in names:
        if suffix == NPY and name.splitlines() != [name]:
            raise UsageError(
                f"The name of the image {name!r} has a line break, so {Path(out).with_suffix('.txt')} cannot list it: "
                f"rename the image, or name a file that ends in {other}."
            )
        try:
            encoded.append(encode(name))
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The name of the image {name!r} is not UTF-8, so {out} cannot hold it: rename the image, or name a "
                f"file that ends in {other}."
            ) from error
    return encoded


class _Squares(Dataset):
    """Cut a square from the centre of each image; give NaN for an image that cannot be read."""

    def __init__(self, images: Sequence[dict[str, Any]], network: FeatureNetwork, size: int) -> None:
        """
        Args:
            images: dataset dicts.
            network: network that takes the squares.
            size: side of the squares.
        """
        self.images = images
        self.patience = Patience(default_config().DATALOADER.RETRY_SECONDS)
        self.pixel_range = network.pixel_range
        self.format = "L" if network.channels == 1 else "RGB"
        self.empty = torch.full((network.channels, size, size), torch.nan)
        self.crop = v2.Compose([v2.Resize(round(MARGIN * size)), v2.CenterCrop(size)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        try:
            image = self.patience.read(partial(read_image, self.images[i]["file_name"], self.pixel_range))
        except UnreadableImage as error:
            logger.warning(f"The row of an image is NaN: {error}.")
            return self.empty
        return torch.from_numpy(to_array(self.crop(image), self.format)).float() / 255


@torch.inference_mode()
def _rows(
    network: FeatureNetwork,
    feature: str,
    pooled: bool,
    images: Sequence[dict[str, Any]],
    size: int,
    batch: int,
    workers: int,
    dtype: Callable[..., Any],
    count_unreadable: Callable[[int], object],
) -> Batches:
    """Yield the features of batches of images, (N, C) or (N, C, H, W); count the unreadable images of each batch."""
    limit = network.max_image_pixels
    restrict_pillow(limit)
    squares = _Squares(images, network, size)
    index = network.names.index(feature)
    device = network.mean.device
    loader = build_loader(squares, torch.stack, workers, limit, str(device), batch_size=batch)
    for samples in tqdm(loader, desc="embed", leave=False):
        found = network(samples.to(device))[index]
        found = found.mean(dim=(2, 3)) if pooled else found
        empty = samples.isnan().flatten(1).any(1)
        count_unreadable(int(empty.sum()))
        found[empty] = torch.nan  # ReLU and pooling may hide them
        yield found.cpu().numpy().astype(dtype)


def _write_npy(path: str, names: Sequence[str], batches: Batches) -> tuple[int, ...]:
    """Write an array with a row for each name, through a memory map; return the shape of a row."""
    first = next(batches)
    array = np.lib.format.open_memmap(path, "w+", first.dtype, (len(names), *first.shape[1:]))
    start = 0
    for rows in itertools.chain([first], batches):
        array[start : start + len(rows)] = rows
        start += len(rows)
    array.flush()
    return array.shape[1:]


def _write_parquet(path: str, names: Sequence[str], batches: Batches) -> tuple[int, ...]:
    """Write a table of names and flat features, batch by batch; return the shape of a row, which its metadata hold."""
    import pyarrow
    from pyarrow import parquet

    first = next(batches)
    shape, start = first.shape[1:], 0
    kind = pyarrow.list_(pyarrow.from_numpy_dtype(first.dtype), int(np.prod(shape)))
    schema = pyarrow.schema({"name": pyarrow.string(), "feature": kind}, {"shape": str(list(shape))})
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in itertools.chain([first], batches):
            values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), kind.list_size)
            writer.write_table(pyarrow.table([names[start : start + len(rows)], values], schema=schema))
            start += len(rows)
    return shape
