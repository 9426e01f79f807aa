"""Tensors that are no weights to go on with: each is named."""

import pytest
import torch

from pixpro_d2.checkpoint.tensors import check_tensors
from pixpro_d2.utils.errors import UsageError


def file_with(name, value):
    return {"a.weight": torch.ones(3, 2), "a.num_batches_tracked": torch.tensor(2), "text": "x", name: value}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_infinite_and_nan_weights_are_named(value):
    tensors = file_with("b", torch.tensor([1.0, value]).half())
    with pytest.raises(UsageError, match=r"w.pth has infinite or NaN values in 1 of 3 tensors \(b is the first\)"):
        check_tensors(tensors, "w.pth")
    del tensors["b"]
    check_tensors(tensors, "w.pth")


@pytest.mark.parametrize(
    "value, words",
    [
        (torch.ones(2, 2).to(torch.int8), "of type int8"),
        (torch.ones(2, 2).to(torch.float8_e4m3fn), "of type float8_e4m3fn"),
        (torch.ones(2, 2).to(torch.complex64), "of type complex64"),
        (torch.ones(2, 2).to_sparse(), "sparse"),
        (torch.ones(2, 2, device="meta"), "without values, on the meta device"),
    ],
)
def test_weights_of_other_kinds(value, words):
    with pytest.raises(UsageError, match=rf"^w.pth has weights that are no plain numbers \(b.weight is {words}\):"):
        check_tensors(file_with("b.weight", value), "w.pth")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_weights():
    quantised = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
    with pytest.raises(UsageError, match=r"\(b.weight is quantised\)"):
        check_tensors(file_with("b.weight", quantised), "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_all_lengths_are_weights(dtype):
    check_tensors(file_with("b.weight", torch.ones(2, 2, dtype=dtype)), "w.pth")


def test_a_network_of_which_nothing_is_left():
    with pytest.raises(UsageError, match=r"negative variances \(n.running_var is the first\)"):
        check_tensors(file_with("n.running_var", torch.tensor([1.0, -1.0])), "w.pth")
    check_tensors(file_with("offset.weight", torch.zeros(2, 2)), "w.pth")  # as deformable convolutions begin
    with pytest.raises(UsageError, match="^w.pth has nothing but zeros in its 2 weights"):
        check_tensors({"a.weight": torch.zeros(2, 2), "b.weight": torch.zeros(2, 2), "n": torch.ones(2)}, "w.pth")
