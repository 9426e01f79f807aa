"""Optical flow by dense inverse search."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from pixpro_d2.flow.dis import DIS


def texture(height=96, width=128, seed=0):
    """Tensor (3, height, width) of smooth random colours, uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return torch.from_numpy(np.array(Image.fromarray(noise).resize((width, height), Image.BICUBIC))).permute(2, 0, 1)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize(("dx", "dy"), [(5, -3), (-4, 6)])
def test_a_shift_is_found(dx, dy, scale):
    # Content of the first frame lies dx to the right and dy below in the second; on the grid, 1 / scale of that.
    first = texture()[None]
    second = first.roll((dy, dx), (2, 3))
    flow = DIS(scale=scale)(first, second)
    assert flow.shape == (1, 2, 96 // scale, 128 // scale) and flow.dtype == torch.float32
    inside = flow[0, :, 2:-2, 2:-2].flatten(1).median(dim=1).values
    torch.testing.assert_close(inside, torch.tensor([dx, dy]) / scale, rtol=0.1, atol=0)
    back = DIS(scale=scale)(second, first)[0, :, 2:-2, 2:-2].flatten(1).median(dim=1).values
    torch.testing.assert_close(back, torch.tensor([-dx, -dy]) / scale, rtol=0.1, atol=0)


def test_pairs_of_a_batch_are_independent():
    first, second = (torch.stack([texture(seed=seed).roll(shift, 2) for seed in range(3)]) for shift in (0, 2))
    estimator = DIS()
    single = torch.cat([estimator(first[i : i + 1], second[i : i + 1]) for i in range(3)])
    assert torch.equal(estimator(first, second), single)
    assert torch.equal(copy.deepcopy(estimator)(first, second), single)  # as a model that holds it may be copied


@pytest.mark.parametrize("size", [(2, 2), (8, 64), (64, 9), (33, 40)])
def test_frames_of_any_size(size):
    # OpenCV alone crashes on images of 8 x 64 pixels.
    first = texture()[None, :, : size[0], : size[1]]
    flow = DIS()(first, first)
    assert flow.shape == (1, 2, -(-size[0] // 8), -(-size[1] // 8))
    assert flow.abs().max() < 0.05
