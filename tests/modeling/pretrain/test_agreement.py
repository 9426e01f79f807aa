"""A teacher's features at the student's bins, and the losses: by hand, and against loops over single bins."""

import math

import pytest
import torch

from pixpro_d2.modeling.pretrain.agreement import (
    LOSSES,
    cosine_distance,
    mean_over_bins,
    positions_in,
    sample_at,
    smooth_l1,
    standardized,
)
from pixpro_d2.modeling.pretrain.correspondence import bin_centers

IMAGE = torch.tensor([[0.0, 0.0, 80.0, 60.0]])
CROP = torch.tensor([[10.0, 20.0, 50.0, 44.0]])
MIRRORED = torch.tensor([[50.0, 20.0, 10.0, 44.0]])
LARGER = torch.tensor([[4.0, 10.0, 68.0, 58.0]])


def test_positions_by_hand():
    """A view from x 0 to 8 with two bins; the other view is from 3 to 7, or the same mirrored."""
    first = torch.tensor([[0.0, 0.0, 8.0, 4.0]])
    for second, across in ((torch.tensor([[3.0, 0.0, 7.0, 8.0]]), [-0.25, 0.75]), ([[7.0, 0, 3, 8]], [1.25, 0.25])):
        positions, inside = positions_in(first, torch.as_tensor(second), (1, 2))
        torch.testing.assert_close(positions, torch.tensor([[[[across[0], 0.25], [across[1], 0.25]]]]))
        assert inside.tolist() == [[[False, True]]]


def test_bins_outside_in_either_direction_do_not_count():
    _, inside = positions_in(IMAGE, torch.tensor([[20.0, 15.0, 60.0, 45.0]]), (4, 4))
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[1:3, 1:3] = True
    assert torch.equal(inside[0], expected)


def ramp(box, size):
    """The teacher's map of a view: at each cell the x and the y of its centre in the image, and a constant."""
    x, y = bin_centers(box, size).unflatten(1, size).unbind(-1)
    return torch.stack((x, y, torch.ones_like(x)), dim=1)


# A map of as many cells as bins, finer, coarser, and finer in one direction only; then the other pairs of views.
@pytest.mark.parametrize(
    "query, key, cells, grid",
    [
        (CROP, LARGER, (6, 6), (6, 6)),
        (CROP, LARGER, (16, 16), (3, 5)),
        (CROP, LARGER, (24, 12), (6, 6)),
        (CROP, LARGER, (4, 4), (12, 9)),
        (CROP, LARGER, (30, 7), (12, 9)),
        (LARGER, CROP, (30, 7), (12, 9)),
        (MIRRORED, LARGER, (24, 12), (3, 5)),
        (LARGER, MIRRORED, (16, 16), (12, 9)),
        (CROP, CROP, (4, 4), (6, 6)),
    ],
)
def test_a_ramp_comes_out_exact(query, key, cells, grid):
    """Features that are linear in the image: away from the border of the map, each bin gets its own place."""
    positions, inside = positions_in(query, key, grid)
    got = sample_at(ramp(key, cells), positions)
    # Resampling repeats the outermost cells, half a cell (of the pooled map) before the border.
    cell = [1 / min(count, bins) if count > bins else 1 / count for count, bins in zip(cells[::-1], grid[::-1])]
    margin = torch.tensor(cell)
    safe = ((positions >= margin / 2) & (positions <= 1 - margin / 2)).all(dim=3)
    assert (safe & inside).any() and not (safe & ~inside).any()
    want = ramp(query, grid)
    kept = safe[:, None].expand_as(want)
    torch.testing.assert_close(got[kept], want[kept], atol=1e-4, rtol=0)
    torch.testing.assert_close(got[:, 2], torch.ones_like(got[:, 2]))


def test_a_finer_map_is_averaged_and_all_its_cells_count():
    """8 cells for 2 bins of the same view: each bin is the mean of its 4 x 4 cells; 6 cells for 4 bins stay 6."""
    features = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    positions, _ = positions_in(CROP, CROP, (2, 2))
    want = features.reshape(1, 2, 2, 4, 2, 4).mean(dim=(3, 5))
    torch.testing.assert_close(sample_at(features, positions), want)
    positions, _ = positions_in(CROP, CROP, (4, 4))
    line = torch.arange(6.0).expand(1, 1, 6, 6)
    # Bin centres 1/8, 3/8, ... of 6 cells are at 0.25, 1.75, 3.25, 4.75 between the centres of cells.
    torch.testing.assert_close(sample_at(line, positions)[0, 0, 0], torch.tensor([0.25, 1.75, 3.25, 4.75]))


def test_resampling_against_a_loop():
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(2, 3, 5, 7, generator=generator)
    positions = torch.rand(2, 4, 6, 2, generator=generator) * 1.6 - 0.3  # some of them outside
    got = sample_at(features, positions)
    for n in range(2):
        for i in range(4):
            for j in range(6):
                x = min(max(positions[n, i, j, 0].item() * 7 - 0.5, 0), 6)
                y = min(max(positions[n, i, j, 1].item() * 5 - 0.5, 0), 4)
                want = torch.zeros(3)
                for row in range(5):
                    for column in range(7):
                        want += max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row)) * features[n, :, row, column]
                torch.testing.assert_close(got[n, :, i, j], want)


def test_standardized_by_hand():
    """Channel 0 is 1, 3 and 5, 7 (mean 4, variance 5); channel 1 does not vary, in float32 and in its rounding."""
    maps = [torch.tensor([[[[1.0, 3.0]], [[0.1, 0.1]]]]), torch.tensor([[[[5.0, 7.0]], [[0.1, 0.1]]]])]
    first, second = standardized(maps)
    torch.testing.assert_close(first[0, 0, 0], torch.tensor([-3.0, -1.0]) / math.sqrt(5))
    torch.testing.assert_close(second[0, 0, 0], torch.tensor([1.0, 3.0]) / math.sqrt(5))
    assert not first[:, 1].any() and not second[:, 1].any()
    assert not any(x.any() for x in standardized([torch.zeros(2, 3, 2, 2)]))


def test_standardized_does_not_depend_on_scale_and_offset():
    maps = [torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    joint = torch.stack(standardized([(50 + 7 * x).to(torch.float64) for x in maps]))
    torch.testing.assert_close(joint, torch.stack(standardized(maps)), atol=1e-4, rtol=0)
    torch.testing.assert_close(joint.mean(dim=(0, 1, 3, 4)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(joint.var(dim=(0, 1, 3, 4), correction=0), torch.ones(4))


def test_losses_by_hand():
    student = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]).T.reshape(1, 2, 1, 4)
    teacher = torch.tensor([[5.0, 0.0], [2.0, 0.0], [4.0, 0.0], [1.0, 0.0]]).T.reshape(1, 2, 1, 4)
    cosine = cosine_distance(student, teacher)[0, 0]
    torch.testing.assert_close(cosine, torch.tensor([0.0, 1.0, 2.0, 1 - math.sqrt(0.5)]))
    # Differences (3, 0), (2, 3), (5, 0), (0, 1): from 1 on |d| - 1/2; the mean of two channels.
    torch.testing.assert_close(smooth_l1(student, teacher)[0, 0], torch.tensor([1.25, 2.0, 2.25, 0.25]))
    assert smooth_l1(0.4 * student[..., :1], teacher[..., :1] * 0).item() == pytest.approx(0.5 * 0.8**2 / 2)
    assert LOSSES["cosine"] is cosine_distance and LOSSES["smooth_l1"] is smooth_l1


def test_the_mean_is_over_bins_then_images():
    values = torch.tensor([[[1.0, 2.0]], [[3.0, 8.0]], [[7.0, 9.0]]], requires_grad=True)
    counted = torch.tensor([[[True, True]], [[False, True]], [[False, False]]])
    loss = mean_over_bins(values, counted)
    assert loss.item() == pytest.approx((1.5 + 8) / 2)
    loss.backward()
    torch.testing.assert_close(values.grad[:, 0], torch.tensor([[0.25, 0.25], [0.0, 0.5], [0.0, 0.0]]))
    nothing = mean_over_bins(values, torch.zeros_like(counted))
    assert nothing.item() == 0 and nothing.requires_grad
