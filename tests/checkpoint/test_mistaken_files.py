"""Files that are something else than weights, as users have given them."""

import bz2
import gzip
import json
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from pixpro_d2.checkpoint.mistaken_files import describe_mistaken
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.utils.errors import UsageError

BYTES = {
    "git lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "Git LFS pointer .*`git lfs pull`",
    ),
    "git-annex": (b"/annex/objects/MD5E-s9--0.pth\n", "git-annex pointer .*`git annex get`"),
    "HTML": (b"\n  <!DOCTYPE html><html></html>", "web page .*: delete it, and download"),
    "XML with a mark": (b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", "web page"),
    "JSON": (b'{"message": "Not Found"}', "web page"),
    "gzip": (gzip.compress(b"weights"), "compressed file: unpack it"),
    "bzip2": (bz2.compress(b"weights"), "compressed file: unpack it"),
    "xz": (lzma.compress(b"weights"), "compressed file: unpack it"),
    "NumPy": (b"\x93NUMPY\x01\x00", "file of NumPy arrays: save the weights as a dictionary"),
    "empty": (b"", "empty file: fetch or write it anew"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "HDF5 file"),
}


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
def test_files_of_other_kinds(name, suffix, tmp_path):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(BYTES[name][0])
    with pytest.raises(UsageError, match=rf"^{path} is an? .*{BYTES[name][1]}"):
        read_checkpoint(str(path))


def torchscript(path, folder):
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)).save(path)


def exported(path, folder):
    """The names in a file of torch.export.save, which takes seconds to write."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/models/model.json", "{}")


def zipped(path, folder):
    torch.save({}, folder / "inner.pth")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "inner.pth", "inner.pth")


def tar(path, folder):
    torch.save({}, folder / "inner.pth")
    with tarfile.open(path, "w") as archive:
        archive.add(folder / "inner.pth", "inner.pth")


def arrays(path, folder):
    with open(path, "wb") as file:
        np.savez(file, w=np.ones(2), b=np.ones(1))


@pytest.mark.parametrize(
    "write, what",
    [
        (arrays, "an archive of NumPy arrays: save the weights"),
        (torchscript, r"a TorchScript program .*`torch.jit.load\('.*w.pth'\).state_dict\(\)`"),
        (exported, "a torch.export program .*`torch.export.load"),
        (zipped, "an archive: unpack it"),
        (tar, "an archive: unpack it"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_programs_and_archives(write, what, tmp_path):
    path = str(tmp_path / "w.pth")
    write(path, tmp_path)
    with pytest.raises(UsageError, match=f"^{path} is {what}") as error:
        read_checkpoint(path)
    assert "weights_only" not in str(error.value)


def test_weights_are_nothing_else(tmp_path):
    tensors = {"w": torch.zeros(2)}
    torch.save(tensors, tmp_path / "zip.pth")
    torch.save(tensors, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    for start in b"<{\x1f":  # the length of the header, which begins a file of safetensors
        header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        header = header.ljust(start + 256)
        (tmp_path / f"{start}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        assert torch.equal(read_checkpoint(str(tmp_path / f"{start}.safetensors"))["model"]["w"], torch.zeros(1))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "protocol0.pkl").write_bytes(b"(dp0\nS'w'\np1\nI1\ns.")
    for path in tmp_path.iterdir():
        assert describe_mistaken(str(path)) is None, path
