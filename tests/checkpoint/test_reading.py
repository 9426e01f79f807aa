"""Containers of weights: what is read, and that nothing in them runs."""

import argparse
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.utils.errors import UsageError


class Payload:
    """Makes a folder when a pickle of it is loaded without care."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def save_zip(data, path):
    torch.save(data, path)


def save_legacy(data, path):
    torch.save(data, path, _use_new_zipfile_serialization=False)


def save_pickle(data, path):
    with open(path, "wb") as file:
        pickle.dump(data, file)


@pytest.mark.parametrize(
    "name, save",
    [("w.pth", save_zip), ("w.pth.tar", save_legacy), ("w.pkl", save_pickle), ("w.pth", save_pickle)],
    ids=["zip", "legacy", "pickle", "pickle named pth"],
)
def test_code_in_a_file_is_refused_by_name_and_does_not_run(name, save, tmp_path):
    path, proof = str(tmp_path / name), tmp_path / "it_ran"
    save({"model": {"w": Payload(proof)}}, path)
    with pytest.raises(UsageError, match=rf"{name} was refused: it asks for \w+\.mkdir"):
        read_checkpoint(path)
    assert not proof.exists()
    if save is not save_pickle:  # that the payload works, where somebody loads it unsafely
        torch.load(path, weights_only=False)
    else:
        pickle.loads((tmp_path / name).read_bytes())
    assert proof.is_dir()


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_whole_modules_are_refused_by_name(save, tmp_path):
    save({"model": torch.nn.Linear(1, 1)}, tmp_path / "module.pth")
    with pytest.raises(UsageError, match="asks for torch.nn.modules.linear.Linear.*state dict"):
        read_checkpoint(str(tmp_path / "module.pth"))


@pytest.mark.parametrize("tensor", [torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.ones(2).untyped_storage()])
def test_tensors_written_by_pickle_are_to_be_saved_by_torch(tensor, tmp_path):
    save_pickle({"model": OrderedDict(w=tensor)}, tmp_path / "w.pkl")
    with pytest.raises(UsageError, match="w.pkl holds tensors that pickle wrote instead of torch.save: load the file"):
        read_checkpoint(str(tmp_path / "w.pkl"))


def test_arrays_of_objects_are_refused(tmp_path):
    save_pickle({"w": np.array([None])}, tmp_path / "objects.pkl")
    with pytest.raises(UsageError, match="asks for arrays of type object"):
        read_checkpoint(str(tmp_path / "objects.pkl"))


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_options_and_numpy_numbers_of_training_code_are_read(save, tmp_path):
    options = argparse.Namespace(lr=0.3, crop=[1, 2], nested=argparse.Namespace(a=None))
    data = {"opt": options, "best": np.float64(0.5), "curve": np.arange(3), "model": OrderedDict(w=torch.ones(2))}
    save(data, tmp_path / "w.pth")
    loaded = read_checkpoint(str(tmp_path / "w.pth"))
    assert loaded["opt"] == options and loaded["best"] == 0.5 and loaded["curve"].tolist() == [0, 1, 2]
    assert torch.equal(loaded["model"]["w"], torch.ones(2))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_arrays(protocol, tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "s": np.float32(0.5)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": OrderedDict(arrays)}, protocol=protocol))
    loaded = read_checkpoint(str(tmp_path / "w.pkl"))["model"]
    for name, array in arrays.items():
        assert np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype


def test_pickle_of_python_2(tmp_path):
    # {"w": np.array([1.5, -2], "float32")} as Python 2 writes it: byte strings, the old NumPy module.
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    values = np.array([1.5, -2], "<f4")
    pickled = b"\x80\x02}U\x01w" + empty + b"(K\x01K\x02\x85" + dtype + b"\x89U\x08" + values.tobytes() + b"tbs."
    (tmp_path / "R-50.pkl").write_bytes(pickled)
    assert read_checkpoint(str(tmp_path / "R-50.pkl"))["w"].tolist() == [1.5, -2]


def test_safetensors_with_and_without_the_input_it_expects(tmp_path):
    tensors = {"w": torch.arange(3.0)}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt", "input": '{"format": "RGB"}'})
    safetensors.torch.save_file(tensors, tmp_path / "b.safetensors")
    assert read_checkpoint(str(tmp_path / "a.safetensors"))["input"] == {"format": "RGB"}
    loaded = read_checkpoint(str(tmp_path / "b.safetensors"))
    assert list(loaded) == ["model"] and torch.equal(loaded["model"]["w"], tensors["w"])


@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04 cut", b"\x80\x02}q\x00", b"\xff" * 99])
def test_damaged_files_are_named(content, suffix, tmp_path):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"broken.{suffix} is not a readable checkpoint \(\S"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
def test_cut_files_are_named(save, tmp_path):
    path = tmp_path / "cut.pth"
    save({"model": {"w": np.zeros(1000) if save is save_pickle else torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(UsageError, match="cut.pth is not a readable checkpoint"):
        read_checkpoint(str(path))


def test_advice_to_load_unsafely_is_not_passed_on(tmp_path):
    save_zip({"w": torch.zeros(1).numpy().view(np.recarray)}, tmp_path / "w.pth")
    with pytest.raises(UsageError) as error:
        read_checkpoint(str(tmp_path / "w.pth"))
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


def test_other_contents_are_named(tmp_path):
    save_zip([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(UsageError, match="list.pth holds a list instead of a dictionary of weights"):
        read_checkpoint(str(tmp_path / "list.pth"))


def test_missing_file_is_named():
    with pytest.raises(UsageError, match="There is no checkpoint .*no/such.pkl"):
        read_checkpoint("no/such.pkl")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UsageError, match=f"{tmp_path} is a folder: name a file of weights in it"):
        read_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", ["w.pth", "w", "w.bin"])
def test_what_a_file_is_follows_from_its_contents(name, tmp_path):
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / name)
    assert torch.equal(read_checkpoint(str(tmp_path / name))["model"]["w"], torch.ones(2))
    for save in (save_zip, save_legacy, save_pickle):
        save({"w": np.ones(2)}, tmp_path / "w.safetensors")
        assert read_checkpoint(str(tmp_path / "w.safetensors"))["w"].tolist() == [1, 1]
