"""The grid of the flow, and padding of frames."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixpro_d2.flow.grid import grid_size, pad_frames, to_grid


def test_sizes_are_rounded_up():
    assert grid_size((720, 1280), 8) == (90, 160)
    assert grid_size((130, 160), 8) == (17, 20)
    assert grid_size((130, 161), 4) == (33, 41)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_affine_flow_survives(size, scale):
    # Flow at point (x, y) of the frame is (0.1 x - 0.2 y + 3, 0.05 x + 0.3 y - 2); a reader that interpolates between
    # the grid's points, corner on corner, and stretches by W / w and H / h must get just that back, everywhere.
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    dense = torch.stack((0.1 * x - 0.2 * y + 3, 0.05 * x + 0.3 * y - 2))[None]
    coarse = to_grid(dense, scale)
    h, w = coarse.shape[2:]
    assert (h, w) == (-(-height // scale), -(-width // scale)) and coarse.dtype == torch.float32
    stretch = torch.tensor([width / w, height / h]).view(2, 1, 1)
    read = F.interpolate(coarse, size, mode="bilinear", align_corners=True) * stretch
    torch.testing.assert_close(read, dense, atol=1e-3, rtol=0)


def test_units_are_those_of_the_grid():
    dense = torch.tensor([8.0, -16.0]).view(1, 2, 1, 1).expand(1, 2, 32, 64)
    torch.testing.assert_close(to_grid(dense, 8), torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 4, 8))
    # 30 x 60 at 1/8 has 4 x 8 points: their pixels are 30 / 4 = 7.5 high and 60 / 8 = 7.5 wide.
    torch.testing.assert_close(to_grid(dense[..., :30, :60], 8)[0, :, 0, 0], torch.tensor([8 / 7.5, -16 / 7.5]))


def test_padding_repeats_the_last_row_and_column():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    padded = pad_frames(torch.from_numpy(frames), (8, 16))
    assert padded.dtype == torch.uint8
    np.testing.assert_array_equal(padded, np.pad(frames, ((0, 0), (0, 0), (0, 3), (0, 9)), mode="edge"))
    np.testing.assert_array_equal(pad_frames(torch.from_numpy(frames), (5, 7)), frames)
