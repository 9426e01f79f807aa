import pytest
import torch
from motion_helpers import HD, SMALL, constant, one_motion

from pixpro_d2.modeling.pretrain.flow_points import chain_points, sample_flow, track_points


def pixel_grid(size):
    """All pixel centres, (1, H * W, 2)."""
    y, x = torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")
    return torch.stack((x, y), dim=-1).view(1, -1, 2)


def valid_pixels(there, back, size, consistency, alpha1=0.01, alpha2=0.5):
    """Validity of all pixels of a frame, (H, W) bool."""
    _, valid = track_points(pixel_grid(size), one_motion(there, back, size), consistency, alpha1, alpha2)
    return valid.view(size)


def chained(flows, size):
    flows = torch.as_tensor(flows)
    return chain_points(pixel_grid(size), flows[None], one_motion(flows, flows, size).scale)


def test_flow_at_a_lower_resolution():
    def moved(vector):
        flow = constant(*vector, size=(8, 16))
        return chain_points(torch.tensor([[[10.0, 20.0]]]), flow[None], one_motion(flow, flow, (64, 128)).scale)[0]

    torch.testing.assert_close(moved((1.0, 0.0)), torch.tensor([[[8.0, 0.0]]]))
    torch.testing.assert_close(moved((0.5, -0.25)), torch.tensor([[[4.0, -2.0]]]))


def test_padding_of_a_flow_is_never_sampled():
    flow = torch.full((1, 2, 4, 4), 1000.0)
    flow[..., :2, :3] = 2.0
    points = torch.tensor([[[0.5, 0.5], [2.0, 1.0], [2.3, 1.0], [2.0, 1.5], [3.0, 0.0]]])
    vectors = sample_flow(flow, points, torch.tensor([[[2.0, 1.0]]]))
    # Half a grid unit outside, half of the vector at the border.
    torch.testing.assert_close(vectors[0, :, 1], torch.tensor([2.0, 2.0, 1.4, 1.0, 0.0]))


def test_points_freeze_outside_the_frame():
    displacement, inside = chained(constant(1.0, steps=5, size=SMALL), SMALL)
    assert displacement[0, :, 0].view(SMALL)[4].tolist() == [5.0] * 12 + [4.0, 3.0, 2.0, 1.0]
    assert inside.view(SMALL)[4].tolist() == [True] * 11 + [False] * 5  # x = 10 ends on the border, 11 outside
    displacement, inside = chained(constant(6.0, steps=3, size=SMALL), SMALL)
    ends = displacement[0, :, 0].view(SMALL)[4] + torch.arange(16.0)
    assert ends.tolist() == [18.0, 19.0, 20.0, 21.0, *(float(x) for x in range(16, 22)), *range(16, 22)]
    assert not inside.any()


def test_affine_steps():
    # F(x) = 0.1 (x - 8): twice is 0.1 d + 0.1 * 1.1 d = 0.21 d with d = x - 8.
    x = torch.arange(17.0)
    flow = torch.stack((0.1 * (x - 8), torch.zeros(17))).view(1, 2, 1, 17).expand(2, 2, 5, 17)
    displacement, inside = chained(flow, (5, 17))
    row, inside = displacement[0, :, 0].view(5, 17)[2], inside.view(5, 17)[2]
    torch.testing.assert_close(row[1:16], 0.21 * (x[1:16] - 8))
    assert row[10].item() == pytest.approx(0.42)
    assert row[1].item() == pytest.approx(-1.47)
    # -0.8 px outside, 0.2 of the vector at the border are left.
    assert (row[0].item(), row[16].item()) == pytest.approx((-0.96, 0.96))
    # x = 1 ends at -0.47, x = 2 at 0.74
    assert inside.tolist() == [False] * 2 + [True] * 13 + [False] * 2


def test_one_step_is_the_flow_and_no_step_is_none():
    flow = torch.randn(1, 2, *SMALL, generator=torch.Generator().manual_seed(0))
    displacement, _ = chained(flow, SMALL)
    torch.testing.assert_close(displacement[0].T.view(2, *SMALL), flow[0], atol=1e-5, rtol=0)
    displacement, inside = chained(flow[:0], SMALL)
    assert not displacement.any()
    assert inside.all()


def test_order_of_the_steps():
    # 8 px right, then what the right half moves on by; the other way round, the left half does not move at first.
    right, half = constant(8.0, size=SMALL), constant(0.0, 2.0, size=SMALL)
    half[..., :8] = 0
    start = torch.tensor([[[2.0, 3.0]]])
    for order, expected in (((right, half), [8.0, 2.0]), ((half, right), [8.0, 0.0])):
        flows = torch.cat(order)
        displacement, _ = chain_points(start, flows[None], one_motion(flows, flows, SMALL).scale)
        assert displacement.tolist() == [[expected]]


def test_a_point_that_leaves_the_frame_and_returns_is_invalid():
    # Half a pixel outside, half of the vector at the border leads it back into the frame.
    there = torch.cat((constant(0.5, size=SMALL), constant(-2.0, size=SMALL)))
    back = torch.cat((constant(2.0, size=SMALL), constant(-0.5, size=SMALL)))
    valid = valid_pixels(there, back, SMALL, "pixel", alpha2=float("inf"))
    assert valid[4].tolist() == [False] * 2 + [True] * 13 + [False]
    displacement, _ = chained(there, SMALL)
    assert displacement[0, :, 0].view(SMALL)[4, 15].item() == -0.5


@pytest.mark.parametrize(
    "step, legacy, pixel",
    [
        pytest.param(0.0, 718 * 1278, 720 * 1280, id="zero"),
        pytest.param(1300.0, 0, 0, id="out-of-the-frame"),
        # x = 100 moves onto the border
        pytest.param(-100.0, 718 * 1179, 720 * 1180, id="out-in-part"),
    ],
)
def test_valid_pixels_of_a_wide_frame(step, legacy, pixel):
    there, back = constant(step, size=HD), constant(-step, size=HD)
    assert int(valid_pixels(there, back, HD, "legacy").sum()) == legacy
    assert int(valid_pixels(there, back, HD, "pixel").sum()) == pixel


def test_validity_of_a_constant_flow_and_its_border():
    three, zero = constant(3.0, size=SMALL), constant(0.0, size=SMALL)
    legacy = valid_pixels(three, -three, SMALL, "legacy")
    assert int(legacy.sum()) == 72  # 6 rows of x = 0 ... 11: 3 rows and columns end on the border or outside
    assert legacy[4].tolist() == [True] * 12 + [False] * 4
    pixel = valid_pixels(three, -three, SMALL, "pixel")
    assert pixel.all(dim=0).tolist() == [True] * 13 + [False] * 3
    assert int(valid_pixels(zero, zero, SMALL, "legacy").sum()) == 84  # 6 * 14
    assert int(valid_pixels(zero, zero, SMALL, "pixel").sum()) == 128


@pytest.mark.parametrize("consistency", ["pixel", "legacy"])
def test_occluded_pixels_are_invalid(consistency):
    there, back = constant(2.0, size=SMALL), constant(-2.0, size=SMALL)
    back[..., 8:] = 0
    # From x = 6 on a point moves to x >= 8, where nothing leads back.
    assert valid_pixels(there, back, SMALL, consistency)[4].tolist() == [x <= 5 for x in range(16)]


@pytest.mark.parametrize(
    "vector, consistency, expected",
    [
        pytest.param((10.0, 0.0), "legacy", True, id="legacy-10px"),
        pytest.param((10.0, 0.0), "pixel", False, id="pixel-10px"),
        # |f|^2 < 0.01 |f|^2 + 0.5, so |f| < sqrt(0.5 / 0.99) = 0.71067
        pytest.param((0.7106, 0.0), "pixel", True, id="pixel-below"),
        pytest.param((0.0, 0.7108), "pixel", False, id="pixel-above"),
        # (2 f / 1279)^2 0.99 <= 0.5 / sqrt(720^2 + 1280^2), so f <= 11.86; and 6.67 in y
        pytest.param((11.8, 0.0), "legacy", True, id="legacy-x-below"),
        pytest.param((11.9, 0.0), "legacy", False, id="legacy-x-above"),
        pytest.param((0.0, 6.6), "legacy", True, id="legacy-y-below"),
        pytest.param((0.0, 6.7), "legacy", False, id="legacy-y-above"),
    ],
)
def test_units_of_the_tolerance(vector, consistency, expected):
    motion = one_motion(constant(*vector, size=HD), constant(0.0, size=HD), HD)
    center = torch.tensor([[[640.0, 360.0]]])
    assert track_points(center, motion, consistency, 0.01, 0.5)[1].item() is expected


@pytest.mark.parametrize("pixels, consistency, expected", [(0.70, "pixel", True), (0.72, "pixel", False)])
@pytest.mark.parametrize("size", [HD, (90, 160), (5, 3)])
def test_tolerance_in_pixels_is_that_of_any_resolution(pixels, consistency, expected, size):
    motion = one_motion(constant(pixels * size[1] / 1280, size=size), constant(0.0, size=size), HD)
    assert track_points(torch.tensor([[[640.0, 360.0]]]), motion, consistency, 0.01, 0.5)[1].item() is expected


def test_released_tolerance_grows_at_a_lower_resolution():
    # (2 f / 159)^2 0.99 <= 0.5 / sqrt(90^2 + 160^2), so f <= 4.17 grid units: 33 px where it is 12 at full resolution.
    cases = (("legacy_coarse", 4.15, True), ("legacy_coarse", 4.20, False))
    cases += (("legacy", 11.8 / 8, True), ("legacy", 11.9 / 8, False))
    for consistency, length, expected in cases:
        motion = one_motion(constant(length, size=(90, 160)), constant(0.0, size=(90, 160)), HD)
        assert track_points(torch.tensor([[[640.0, 360.0]]]), motion, consistency, 0.01, 0.5)[1].item() is expected


def test_a_length_at_the_tolerance_is_invalid_but_by_the_released_rule():
    # Nothing moves, and the tolerance is 0.
    motion = one_motion(constant(0.0, size=SMALL), constant(0.0, size=SMALL), SMALL)
    center = torch.tensor([[[8.0, 4.0]]])
    assert not track_points(center, motion, "pixel", 0.01, 0.0)[1].item()
    assert track_points(center, motion, "legacy", 0.01, 0.0)[1].item()
