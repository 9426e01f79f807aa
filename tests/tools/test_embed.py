"""Features of images in a file: the numbers, the names, the formats, the mistakes."""

import os

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from pixpro_d2 import cli
from pixpro_d2.tools.embed import main


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Five images of several shapes, one of them broken, in name order."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i, (height, width) in enumerate([(40, 60), (64, 64), (90, 50), (70, 70)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "4.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """(torchvision's ResNet-18, path of its weights)."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(network.state_dict(), path)
    return network, str(path)


@torch.no_grad()
def expected_maps(network, folder):
    """Maps of the readable images, as torchvision's own transforms and network give them."""
    crop = v2.Compose([v2.Resize(round(64 * 256 / 224)), v2.CenterCrop(64), v2.PILToTensor()])
    images = torch.stack([crop(Image.open(folder / f"{i}.png")) for i in range(4)]) / 255
    normalize = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return torch.nn.Sequential(*list(network.children())[:-2])(normalize(images))


def test_vectors_and_names(photographs, weights, tmp_path, capsys):
    network, path = weights
    out = tmp_path / "out.npy"
    cli.main(["embed", str(photographs), str(out), "--weights", path, "--size", "64", "--batch", "2"])
    told = "; 1 images cannot be read, and their rows are NaN"
    assert capsys.readouterr().out == f"{out}: 5 images, 512 values each{told}\n"
    features = np.load(out)
    assert features.shape == (5, 512) and features.dtype == np.float32 and np.isnan(features[4]).all()
    expected = expected_maps(network, photographs).mean(dim=(2, 3))
    np.testing.assert_allclose(features[:4], expected, rtol=1e-4, atol=1e-4)
    assert (tmp_path / "out.txt").read_text().splitlines() == [f"{photographs}/{i}.png" for i in range(5)]


def test_maps_in_half_precision_read_by_workers(photographs, weights, tmp_path):
    network, path = weights
    out = str(tmp_path / "out.npy")
    options = ["--size", "64", "--pool", "none", "--half", "--workers", "1", "--device", "cpu"]
    main([str(photographs), out, "--weights", path, *options])
    maps = np.load(out, mmap_mode="r")
    assert maps.shape == (5, 512, 2, 2) and maps.dtype == np.float16
    np.testing.assert_allclose(maps[:4], expected_maps(network, photographs), rtol=2e-3, atol=2e-3)
    main([str(photographs), out, "--weights", path, *options, "--feature", "res3"])
    assert np.load(out).shape == (5, 128, 8, 8)


def test_parquet(photographs, weights, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out.parquet"
    main([str(photographs), str(out), "--weights", weights[1], "--size", "64", "--pool", "none", "--batch", "2"])
    table = parquet.read_table(out)
    assert table.column_names == ["name", "feature"] and table.schema.metadata[b"shape"] == b"[512, 2, 2]"
    assert table["name"].to_pylist()[0] == f"{photographs}/0.png"
    found = np.array(table["feature"].to_pylist()[:4]).reshape(4, 512, 2, 2)
    np.testing.assert_allclose(found, expected_maps(weights[0], photographs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("out.csv", [], "out.csv must end in .npy or .parquet"),
        ("no/out.npy", [], "There is no folder .*no: make it first"),
        ("out.npy", ["--feature", "res9"], "--feature is 'res9'; the backbone of .* has res2, res3, res4, res5"),
        ("out.npy", ["--size", "50"], "--size is 50; it must be a multiple of 32"),
        ("out.npy", ["--weights", "none.pth"], "There is no checkpoint .*none.pth"),
    ],
)
def test_mistakes(out, options, message, photographs, weights, tmp_path):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        main([str(photographs), str(tmp_path / out), "--weights", weights[1], *options])
    assert not list(tmp_path.iterdir())


def write_image(folder, name):
    """Write a grey image whose name is bytes; return the folder's path."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "grey.png")
    os.rename(folder / "grey.png", os.path.join(os.fsencode(folder), name))
    return str(folder)


def test_names_that_are_not_utf8_are_listed(weights, tmp_path):
    folder = write_image(tmp_path / "images", b"latin-\xe4.png")
    write_image(tmp_path / "images", "ünter.png".encode())
    main([folder, str(tmp_path / "out.npy"), "--weights", weights[1], "--size", "64"])
    assert np.isfinite(np.load(tmp_path / "out.npy")).all()
    start = os.fsencode(folder)
    assert (tmp_path / "out.txt").read_bytes() == start + b"/latin-\xe4.png\n" + start + b"/\xc3\xbcnter.png\n"


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        (b"a\nb.png", "out.npy", r"images/a\\nb.png' has a line break, so .*out.txt cannot list it: rename the image"),
        (b"a\rb.png", "out.npy", r"images/a\\rb.png' has a line break"),
        ("a\u2028b.png".encode(), "out.npy", r"images/a\\u2028b.png' has a line break"),
        (b"a\x0cb.png", "out.npy", r"images/a\\x0cb.png' has a line break"),
        (b"\xe4.png", "out.parquet", r"images/\\udce4.png' is not UTF-8, so .*out.parquet cannot hold it: rename"),
    ],
)
def test_names_that_a_list_cannot_hold_are_refused_before_any_work(name, out, message, tmp_path, monkeypatch):
    """Before the weights are read, which would fail here."""
    monkeypatch.setattr("pixpro_d2.extras.deployment.embedding.find_spec", lambda name: name)
    folder = write_image(tmp_path / "images", name)
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(SystemExit, match=f"^error: The name of the image .*{message}"):
        main([folder, str(tmp_path / out), "--weights", str(tmp_path / "broken.pth")])
    assert {path.name for path in tmp_path.iterdir()} == {"images", "broken.pth"}


def test_parquet_lists_a_name_with_a_line_break(weights, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write_image(tmp_path / "images", b"a\nb.png")
    main([folder, str(tmp_path / "out.parquet"), "--weights", weights[1], "--size", "64"])
    assert parquet.read_table(tmp_path / "out.parquet")["name"].to_pylist() == [f"{folder}/a\nb.png"]


def test_parquet_without_its_package(photographs, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("pixpro_d2.extras.deployment.embedding.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="out.parquet needs pyarrow: run `pip install pyarrow`, or name a file"):
        main([str(photographs), str(tmp_path / "out.parquet"), "--weights", weights[1]])
