"""The ONNX graph: what onnxruntime computes with it, and that a wrong graph is not accepted."""

import pytest
import torch
import torchvision

from pixpro_d2.extras.deployment.network import load_network
from pixpro_d2.extras.deployment.onnx import check_graph, convert_to_onnx
from pixpro_d2.utils.errors import UsageError

pytestmark = pytest.mark.slow
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def weights(path, seed):
    """Write the weights of a ResNet-18 of torchvision; return the network."""
    torch.manual_seed(seed)
    network = torchvision.models.resnet18().eval()
    torch.save(network.state_dict(), path)
    return network


@torch.no_grad()
def test_the_graph_takes_plain_images_of_any_size(tmp_path):
    theirs = weights(tmp_path / "in.pth", seed=0)
    path, what = convert_to_onnx(str(tmp_path / "in.pth"), str(tmp_path / "out.onnx"))
    assert "outputs res2, res3, res4, res5; within " in what
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    normalize = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    body = torch.nn.Sequential(*list(theirs.children())[:-2])
    for shape in ((1, 3, 32, 32), (3, 3, 96, 160)):
        images = torch.rand(shape)
        (found,) = session.run(["res5"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), body(normalize(images)), rtol=1e-4, atol=1e-4)

    weights(tmp_path / "other.pth", seed=1)
    with pytest.raises(UsageError, match="The graph in .*out.onnx differs from the network by"):
        check_graph(load_network(str(tmp_path / "other.pth")), path)


def test_mistakes(tmp_path):
    weights(tmp_path / "in.pth", seed=0)
    for out, options, message in (
        ("out.pth", {}, "out.pth must end in .onnx for --to onnx"),
        ("no/out.onnx", {}, "There is no folder .*no: make it first"),
        ("out.onnx", {"with_fpn": True}, "The online backbone of .*in.pth has no FPN: leave out --with-fpn"),
        ("out.onnx", {"branch": "target"}, "holds no target backbone"),
    ):
        with pytest.raises(UsageError, match=message):
            convert_to_onnx(str(tmp_path / "in.pth"), str(tmp_path / out), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]
