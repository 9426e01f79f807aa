"""The frozen teacher: conversion of its input by hand, precision, and networks that give no map."""

import pytest
import torch
from distillation_helpers import PLAIN, Averages, teacher
from torch import nn

from pixpro_d2.modeling.pretrain import teacher as teacher_module
from pixpro_d2.modeling.pretrain.teacher import InputConversion, InputNormalization, Teacher, probe_teacher
from pixpro_d2.utils.errors import UsageError

RGB = InputNormalization("RGB", (100.0, 110.0, 120.0), (50.0, 40.0, 20.0))
HALVES = InputNormalization("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
PIXELS = torch.tensor([200.0, 30.0, 120.0])  # red, green, blue


def normalized(pixels, normalization):
    mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
    return ((pixels - mean) / std).view(1, -1, 1, 1)


def test_another_mean_and_deviation():
    conversion = InputConversion(RGB, HALVES)
    got = conversion(normalized(PIXELS, RGB))
    torch.testing.assert_close(got.flatten(), torch.tensor([72.5, -97.5, -7.5]) / 127.5)
    assert not conversion.is_identity and InputConversion(RGB, RGB).is_identity


def test_bgr_and_rgb():
    bgr = InputNormalization("BGR", (1.0, 2.0, 3.0), (2.0, 1.0, 4.0))
    to_bgr = InputConversion(RGB, bgr)(normalized(PIXELS, RGB))
    torch.testing.assert_close(to_bgr.flatten(), torch.tensor([119 / 2, 28.0, 197 / 4]))
    back = InputConversion(bgr, RGB)(to_bgr)
    torch.testing.assert_close(back, normalized(PIXELS, RGB))
    assert not InputConversion(RGB, InputNormalization("BGR", RGB.mean, RGB.std)).is_identity


def test_grey_views_become_colours():
    grey = InputNormalization("L", (100.0,), (25.0,))
    conversion = InputConversion(grey, HALVES)
    got = conversion(torch.tensor([2.0, -4.0]).view(2, 1, 1, 1))
    torch.testing.assert_close(got, (torch.tensor([150.0, 0.0]) / 127.5 - 1).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert not conversion.is_identity and InputConversion(grey, grey).is_identity


def test_colours_do_not_become_grey():
    with pytest.raises(UsageError, match="^The teacher takes images of 1 channels, but the views have 3: choose a"):
        InputConversion(RGB, InputNormalization("L", (100.0,), (25.0,)))


def test_half_precision_where_the_processor_has_it(monkeypatch):
    """Whatever the student's precision is, also inside of its autocast."""
    seen = []

    class Spy(nn.Conv2d):
        def forward(self, images):
            output = super().forward(images)
            seen.append(output.dtype)
            return output

    frozen = Teacher(Spy(3, 4, 8, 8), InputConversion(PLAIN, PLAIN), 4)
    for dtype in (torch.bfloat16, None):
        monkeypatch.setattr(teacher_module, "half_precision", lambda device, dtype=dtype: dtype)
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                frozen(torch.rand(1, 3, 16, 16))
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


def test_it_sees_what_its_conversion_gives():
    network = Averages()
    images = torch.rand(2, 3, 16, 16)
    frozen = Teacher(network, InputConversion(RGB, HALVES), 4)
    torch.testing.assert_close(frozen(images), teacher(network)(InputConversion(RGB, HALVES)(images)))


class Fails(nn.Module):
    def forward(self, images):
        raise AssertionError("Input size (32) does not match model (224).")


@pytest.mark.parametrize(
    "network, message",
    [
        (nn.Flatten(), r"^T gives a tensor of shape \(2, 3072\) for two images, but .* \(N, C, h, w\): wrap the"),
        (nn.LSTM(32, 4), "^T cannot be run on images of shape"),
        (Fails(), r"^T cannot be run on images of shape \(2, 3, 32, 32\) \(Input size \(32\) does not .*\): choose"),
        (nn.Conv2d(4, 5, 3), "^T cannot be run on images .*expected input.* to have 4 channels"),
    ],
)
def test_networks_that_give_no_map(network, message):
    with pytest.raises(UsageError, match=message):
        probe_teacher(network, 3, (32, 32), "T")


def test_the_probe_tells_the_shape_and_changes_nothing():
    network = Averages()
    assert probe_teacher(network, 3, (32, 48), "T") == (2, 4, 4, 6)
    assert not network.norm.num_batches_tracked
