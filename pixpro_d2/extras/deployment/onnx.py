"""Write the backbone of a checkpoint as an ONNX graph, and compare the graph with the network."""

import warnings
from importlib.util import find_spec

import torch

from ...checkpoint.conversion import check_out, check_pyramid
from ...utils.errors import UsageError
from ...utils.files import report_write_errors, write_file
from .network import FeatureNetwork, load_network

NEEDED = ("onnx", "onnxscript")  # packages of PyTorch's exporter
TOLERANCE = 1e-4  # difference from the network, as a share of the largest value of a feature


def convert_to_onnx(
    source_path: str,
    out: str,
    branch: str = "online",
    with_fpn: bool | None = None,
    with_hash: bool = False,
    config_file: str = "",
) -> tuple[str, str]:
    """Convert the backbone of a checkpoint to an ONNX graph, and check the graph if onnxruntime is installed.

    Args:
        source_path: checkpoint in any known format.
        out: file to write, with the suffix ``.onnx``.
        branch, config_file: see :func:`.network.load_network`.
        with_fpn: False drops the FPN, True demands one; None keeps the FPN if there is one.
        with_hash: put a hash into the file's name.

    Returns:
        Path of the file, and one line about its contents.

    Raises:
        UsageError: if a package is missing, the checkpoint cannot be converted, or the graph differs from the network.
    """
    check_out(out, "onnx", (".onnx",))
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"--to onnx needs {' and '.join(missing)}: run `pip install onnx onnxscript onnxruntime`.")
    network = load_network(source_path, branch, config_file, with_fpn is not False)
    check_pyramid(hasattr(network.backbone, "bottom_up"), with_fpn, branch, source_path)
    checked = "not compared with the network, because onnxruntime is not installed"

    def write(partial: str) -> None:
        nonlocal checked
        write_graph(network, partial)
        if find_spec("onnxruntime") is not None:
            checked = f"within {check_graph(network, partial):.1g} of the network"

    with report_write_errors(out):
        path = write_file(out, write, with_hash)
    return path, (
        f"ONNX graph of the {branch} backbone of {source_path}; input images (N, {network.channels}, H, W), RGB in "
        f"[0, 1], sides divisible by {network.divisor}; outputs {', '.join(network.names)}; {checked}"
    )


def write_graph(network: FeatureNetwork, path: str) -> None:
    """Write a network as an ONNX graph with any number and any size of images."""
    side = network.divisor
    sizes = {0: torch.export.Dim("batch"), 2: side * torch.export.Dim("rows"), 3: side * torch.export.Dim("columns")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own code
        torch.onnx.export(
            network,
            (_images(network, 2, 2, 3),),
            path,
            input_names=["images"],
            output_names=network.names,
            dynamic_shapes=(sizes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@torch.no_grad()
def check_graph(network: FeatureNetwork, path: str) -> float:
    """Compare a graph with its network on images of two sizes.

    Returns:
        The largest difference, as a share of the largest value of the feature.

    Raises:
        UsageError: if the difference is above ``TOLERANCE``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for sizes in ((2, 2, 3), (1, 4, 1)):
        images = _images(network, *sizes)
        found = session.run(network.names, {"images": images.numpy()})
        for theirs, ours in zip(found, network(images)):
            worst = max(worst, ((torch.from_numpy(theirs) - ours).abs().max() / ours.abs().max()).item())
    if not worst <= TOLERANCE:
        raise UsageError(f"The graph in {path} differs from the network by {worst:.1g} of the largest value.")
    return worst


def _images(network: FeatureNetwork, count: int, rows: int, columns: int) -> torch.Tensor:
    """Return random images whose sides are multiples of what divides the sides."""
    generator = torch.Generator().manual_seed(0)
    sides = rows * network.divisor, columns * network.divisor
    return torch.rand(count, network.channels, *sides, generator=generator)
