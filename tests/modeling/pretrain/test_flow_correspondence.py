import random

import pytest
import torch
from motion_helpers import HD, SMALL, constant
from torch import nn

from pixpro_d2.modeling.pretrain.correspondence import BoxCorrespondence, bin_diagonals, positive_pairs
from pixpro_d2.modeling.pretrain.flow_correspondence import FlowCorrespondence
from pixpro_d2.modeling.pretrain.losses import pixpro_loss

RATIO = 0.7
CPU = torch.device("cpu")
SEVEN = ((7, 7), (7, 7))
TWO = ((2, 2), (2, 2))
FULL_HD = [0.0, 0.0, 1280.0, 720.0]
LEFT, RIGHT = [0.0, 0.0, 640.0, 720.0], [640.0, 0.0, 1280.0, 720.0]
FULL_SMALL = [0.0, 0.0, 16.0, 8.0]


def make_batch(boxes, sizes, there=None, back=None):
    """Batch of samples with boxes [(first, second)], frame sizes [(H, W)] and flows [(m, 2, h, w)].

    Smaller flows are padded by their edge values, and go as float16 over the bus.
    """
    batch = {"boxes": torch.tensor(boxes), "image_sizes": torch.tensor(sizes, dtype=torch.float32)}
    if there is not None:
        batch["flow_sizes"] = torch.tensor([flow.shape[-2:] for flow in there])
        height, width = batch["flow_sizes"].max(dim=0).values.tolist()

        def pad(flow):
            rows = torch.arange(height).clamp(max=flow.shape[-2] - 1)
            columns = torch.arange(width).clamp(max=flow.shape[-1] - 1)
            return flow[:, :, rows][..., columns].half()

        batch["flow_there"] = torch.stack([pad(flow) for flow in there])
        batch["flow_back"] = torch.stack([pad(flow) for flow in back])
    return batch


def masks_of(boxes, sizes, there=None, back=None, grids=SEVEN, **kwargs):
    """Masks there and back with the released code's boxes, unless ``kwargs`` say otherwise."""
    correspondence = FlowCorrespondence(RATIO, **{"official_rounding": True, **kwargs})
    return correspondence(correspondence.geometry(make_batch(boxes, sizes, there, back), CPU), grids)


def count(box_q, box_k, size, there=None, back=None, **kwargs):
    """Positives from the first view to the second of one sample."""
    there, back = ([flow] if flow is not None else None for flow in (there, back))
    return int(masks_of([(box_q, box_k)], [size], there, back, **kwargs)[0].sum())


def loss_of(mask, grid, mean_over="all"):
    """Loss and gradient of constant unit features: -2 for a sample with a positive, 0 for another."""
    q = torch.ones(len(mask), 1, *grid, requires_grad=True)
    loss = pixpro_loss(q, torch.ones(len(mask), 1, *grid), mask, mean_over)
    loss.backward()
    return loss.item(), q.grad


def random_pair(rng, size):
    """Two random crops of whole pixels, each mirrored half of the time."""
    height, width = size

    def crop():
        w, h = rng.randint(width // 4, width), rng.randint(height // 4, height)
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        x0, x1 = (x + w, x) if rng.random() < 0.5 else (x, x + w)
        return [float(v) for v in (x0, y, x1, y + h)]

    return crop(), crop()


# Plain crops, flips and moves of whole frames


def test_released_units_of_a_wide_frame():
    # Bins of 1279 / 7 x 719 / 7 = 182.714 x 102.714 px; their diagonal is 209.606 px, and 0.7 of it 146.724 px.
    correspondence = FlowCorrespondence(RATIO, official_rounding=True)
    geometry = correspondence.geometry(make_batch([(FULL_HD, FULL_HD)], [HD]), CPU)
    assert bin_diagonals(geometry.boxes[0], (7, 7)).item() == pytest.approx(209.606, abs=5e-4)
    # All 49 bins with themselves, and 2 * 42 with their neighbours above and below.
    assert int(correspondence(geometry, SEVEN)[0].sum()) == 133


@pytest.mark.parametrize(
    "size, units, expected",
    [(HD, "pixel", 133), (HD, "normalized", 49), ((720, 720), "pixel", 49), ((720, 720), "normalized", 49)],
)
@pytest.mark.parametrize("official", [True, False])
def test_no_flow_of_whole_frames(size, units, expected, official):
    box = [0.0, 0.0, float(size[1]), float(size[0])]
    assert count(box, box, size, distance_units=units, official_rounding=official) == expected


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("units", ["pixel", "normalized"])
@pytest.mark.parametrize("consistency", ["pixel", "none"])
def test_zero_flow_and_no_flow_equal_plain_crops(official, units, consistency):
    rng = random.Random(0)
    sizes = [HD if n % 2 else (480, 640) for n in range(300)]
    pairs = [random_pair(rng, size) for size in sizes]
    zero = [constant(0.0, steps=2, size=(6, 9) if n % 2 else (5, 4)) for n in range(300)]
    plain = BoxCorrespondence(RATIO, units, official)
    expected = plain(plain.geometry(make_batch(pairs, sizes), CPU), ((7, 7), (5, 6)))
    assert expected[0].any(dim=(1, 2)).sum() > 200
    options = {"distance_units": units, "official_rounding": official, "consistency": consistency}
    for flows in ((None, None), (zero, zero)):
        masks = masks_of(pairs, sizes, *flows, grids=((7, 7), (5, 6)), **options)
        assert all(torch.equal(*both) for both in zip(masks, expected))


def test_zero_flow_of_a_whole_wide_frame():
    zero = constant(0.0, size=HD)
    assert count(FULL_HD, FULL_HD, HD, zero, zero) == 133


def test_flip():
    flipped = [1280.0, 0.0, 0.0, 720.0]
    (mask,) = masks_of([(FULL_HD, flipped)], [HD], [constant(0.0)], [constant(0.0)])[0]
    assert int(mask.sum()) == 133
    columns = mask.view(7, 7, 7, 7).any(dim=2).any(dim=0)  # of query and key
    assert torch.equal(columns, torch.eye(7, dtype=torch.bool).flip(1))


@pytest.mark.parametrize("size", [(2, 2), (90, 160), HD])
def test_flow_joins_the_halves_of_a_frame(size):
    # 640 px to the right, in pixels of the flow.
    step = 640.0 * size[1] / 1280
    assert count(LEFT, RIGHT, HD) == 7  # the columns at the seam
    assert count(LEFT, RIGHT, HD, constant(step, size=size), constant(-step, size=size)) == 133
    assert count(LEFT, LEFT, HD) == 133


@pytest.mark.parametrize("consistency", ["pixel", "legacy", "none"])
def test_flow_of_one_bin(consistency):
    # 1279 / 7 px; six columns of 7 + 2 * 6 pairs have a bin to move to.
    there, back = constant(182.714, size=HD), constant(-182.714, size=HD)
    assert count(FULL_HD, FULL_HD, HD, there, back, consistency=consistency) == 114


def test_flow_out_of_the_frame():
    there, back = constant(1300.0, size=HD), constant(-1300.0, size=HD)
    for consistency in ("pixel", "legacy", "none"):
        mask, _ = masks_of([(FULL_HD, FULL_HD)], [HD], [there], [back], consistency=consistency)
        assert not mask.any()
        loss, gradient = loss_of(mask, (7, 7))
        assert loss == 0
        assert not gradient.any()


def test_flow_out_of_the_frame_in_part():
    there, back = constant(-100.0, size=HD), constant(100.0, size=HD)
    assert count(FULL_HD, FULL_HD, HD, there, back, consistency="none") == 247
    # The first column's centre, at 91.4 px, leaves the frame with its 19 pairs.
    assert count(FULL_HD, FULL_HD, HD, there, back, consistency="pixel") == 228
    assert count(FULL_HD, FULL_HD, HD, there, back, consistency="legacy") == 228


# Directions and samples


def test_each_direction_has_its_flow():
    first, second = [0.0, 0.0, 8.0, 8.0], [4.0, 0.0, 12.0, 8.0]
    four = [constant(4.0)], [constant(-4.0)]
    # A unit of a flow two vectors wide is 8 px of the 16; the flows here say pixels.
    there, back = ([flow / 8 for flow in flows] for flows in four)
    masks = masks_of([(first, second)], [SMALL], there, back, grids=TWO)
    assert [int(mask.sum()) for mask in masks] == [4, 4]
    swapped = masks_of([(second, first)], [SMALL], back, there, grids=TWO)
    assert [int(mask.sum()) for mask in swapped] == [4, 4]
    for consistency in ("pixel", "none"):
        mistaken = masks_of([(first, second)], [SMALL], back, there, grids=TWO, consistency=consistency)
        assert [int(mask.sum()) for mask in mistaken] == [0, 0]
    assert count(first, second, SMALL, grids=TWO) == 2


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("units", ["pixel", "normalized"])
def test_a_crop_that_moves_with_the_flow_matches_itself(official, units):
    first, second = [0.0, 0.0, 8.0, 8.0], [16.0, 0.0, 8.0, 8.0]  # mirrored
    there, back = [constant(8.0, size=SMALL)], [constant(-8.0, size=SMALL)]
    options = {"distance_units": units, "official_rounding": official}
    masks = masks_of([(first, second)], [SMALL], there, back, **options)
    expected, _ = masks_of([(first, first)], [SMALL], **options)
    expected = expected.view(49, 7, 7).flip(2).view(1, 49, 49)
    assert all(torch.equal(mask, expected) for mask in masks)


def test_sample_without_a_positive():
    there = [constant(0.0, size=SMALL), constant(25.0, size=SMALL)]
    back = [-flow for flow in there]
    mask, _ = masks_of([(FULL_SMALL, FULL_SMALL)] * 2, [SMALL] * 2, there, back, grids=TWO)
    assert mask.sum(dim=(1, 2)).tolist() == [8, 0]
    loss, gradient = loss_of(mask, (2, 2))
    assert loss == pytest.approx(-1.0, abs=1e-5)
    assert gradient.isfinite().all()
    assert loss_of(mask, (2, 2), "matched")[0] == pytest.approx(-2.0, abs=1e-5)


def test_views_of_other_grids():
    zero = [constant(0.0)]
    there, back = masks_of([(FULL_HD, LEFT)], [HD], zero, zero, grids=((3, 5), (4, 2)))
    assert there.shape == (1, 15, 8)
    assert torch.equal(there, back.transpose(1, 2))
    assert there.any()


@pytest.mark.parametrize("consistency", ["pixel", "legacy", "none"])
@pytest.mark.parametrize("units", ["pixel", "normalized"])
def test_mixed_sizes_equal_single_samples(consistency, units):
    rng = random.Random(1)
    generator = torch.Generator().manual_seed(1)
    sizes = [HD, (480, 640), (300, 200), (720, 960)]
    flow_sizes = [(90, 160), (6, 9), (38, 25), (3, 200)]
    pairs = [random_pair(rng, size) for size in sizes]
    # Of some grid units, rather the same everywhere, and back with errors of about a pixel.
    there = [torch.rand(2, 2, *size, generator=generator) * 0.1 + 0.5 for size in flow_sizes]
    back = [0.02 - flow.flip(0) for flow in there]
    options = {"consistency": consistency, "distance_units": units, "alpha2": 4.0}
    together = masks_of(pairs, sizes, there, back, **options)
    for n in range(len(sizes)):
        alone = masks_of(pairs[n : n + 1], sizes[n : n + 1], there[n : n + 1], back[n : n + 1], **options)
        for mixed, single in zip(together, alone):
            assert torch.equal(mixed[n], single[0])
    assert together[0].any(dim=(1, 2)).sum() >= 3


# Validity


@pytest.mark.parametrize("columns, expected", [((0, 0), 8), ((0, 16), 0), ((0, 8), 4)])
@pytest.mark.parametrize("consistency", ["pixel", "legacy"])
def test_invalid_queries_lose_their_positives(columns, expected, consistency):
    # Nothing moves on the way there; on the way back some columns fly off.
    there, back = constant(0.0, size=SMALL), constant(0.0, size=SMALL)
    back[..., slice(*columns)] = 100.0
    options = {"grids": TWO, "consistency": consistency}
    masks = masks_of([(FULL_SMALL, FULL_SMALL)], [SMALL], [there], [back], **options)
    assert int(masks[0].sum()) == expected
    assert int(masks[1].sum()) == expected


@pytest.mark.parametrize("official", [True, False])
def test_zero_flow_at_the_border_of_the_frame(official):
    # A crop of 4 px in the corner: seven bins of 0.43 or 0.57 px.
    box = [0.0, 0.0, 4.0, 4.0]
    zero = constant(0.0, size=SMALL)
    assert count(box, box, SMALL, zero, zero, official_rounding=official) == 49
    if official:  # the first row and column are nearest to pixels on the border
        assert count(box, box, SMALL, zero, zero, consistency="legacy") == 36
    corner = [12.0, 4.0, 16.0, 8.0]
    assert count(corner, corner, SMALL, zero, zero, official_rounding=official) == 49


def test_bins_beyond_the_outermost_pixel_centres_move_as_these():
    # A crop of 2 px at the right edge, of which the last of 4 bins is 0.25 px from the edge; all of it moves 4 px.
    first, second = [14.0, 0.0, 16.0, 8.0], [10.0, 0.0, 12.0, 8.0]
    there, back = constant(-4.0, size=SMALL), constant(4.0, size=SMALL)
    options = {"grids": ((4, 4), (4, 4)), "official_rounding": False}
    moved = masks_of([(first, second)], [SMALL], [there], [back], **options)[0]
    assert torch.equal(moved, masks_of([(first, first)], [SMALL], **options)[0])
    assert moved.any(dim=2).all()


def test_vectors_that_are_no_numbers_match_nothing():
    broken = constant(float("nan"), size=SMALL)
    for consistency in ("pixel", "legacy", "none"):
        options = {"grids": TWO, "consistency": consistency}
        assert count(FULL_SMALL, FULL_SMALL, SMALL, broken, broken, **options) == 0


# What is around the maths


class Estimator(nn.Module):
    """Moves as the difference of the frames' first pixels says, in grid units of an eighth of the frames."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = []

    def forward(self, first, second):
        assert first.dtype == second.dtype == torch.uint8
        assert not torch.is_grad_enabled()
        self.calls.append((int(first[0, 0, 0, 0]), int(second[0, 0, 0, 0])))
        step = (second - first.float())[:, 0, 0, 0] * self.weight
        flow = torch.zeros(len(first), 2, first.shape[-2] // 8, first.shape[-1] // 8)
        flow[:, 0] = step[:, None, None] / 8
        return flow


def test_estimator_is_called_from_frame_to_frame():
    estimator = Estimator()
    correspondence = FlowCorrespondence(RATIO, estimator=estimator)
    frames = torch.tensor([[10, 12, 17], [40, 42, 47]], dtype=torch.uint8)[:, :, None, None, None]
    batch = make_batch([([0.0, 0.0, 32.0, 32.0], [7.0, 0.0, 39.0, 32.0])] * 2, [(32, 64)] * 2)
    geometry = correspondence.geometry({**batch, "frames": frames.expand(2, 3, 3, 32, 64)}, CPU)
    assert estimator.calls == [(10, 12), (12, 17), (17, 12), (12, 10)]
    masks = correspondence(geometry, ((4, 4), (4, 4)))
    assert [torch.equal(mask[n], torch.eye(16, dtype=torch.bool)) for mask in masks for n in (0, 1)] == [True] * 4
    assert len(estimator.calls) == 4
    monitors = correspondence.monitors(geometry)
    assert monitors["displacement"].item() == pytest.approx(7.0)
    assert not monitors["displacement"].requires_grad


def test_estimated_flow_of_padded_frames():
    # Of the second sample the right half is padding: its scale is that of the padded frame, its border its own.
    correspondence = FlowCorrespondence(RATIO, estimator=Estimator())
    box = [0.0, 0.0, 32.0, 32.0]
    frames = torch.tensor([[0, 4], [0, 4]], dtype=torch.uint8)[:, :, None, None, None].expand(2, 2, 3, 32, 64)
    batch = {**make_batch([(box, box)] * 2, [(32, 64), (32, 32)]), "frames": frames}
    there, back = correspondence(correspondence.geometry(batch, CPU), ((4, 4), (4, 4)))
    # Half a bin to the right, a query lies between two columns of keys; the fourth column, with one, leaves the
    # second frame by half a pixel. Back, the first column leaves both.
    assert there.sum(dim=(1, 2)).tolist() == [28, 24]
    assert back.sum(dim=(1, 2)).tolist() == [24, 24]


def test_one_frame_needs_no_estimator():
    estimator = Estimator()
    correspondence = FlowCorrespondence(RATIO, estimator=estimator)
    batch = make_batch([(FULL_SMALL, FULL_SMALL)], [SMALL])
    for extra in ({}, {"frames": torch.zeros(1, 1, 3, 8, 16, dtype=torch.uint8)}):
        geometry = correspondence.geometry({**batch, **extra}, CPU)
        assert torch.equal(correspondence(geometry, TWO)[0], positive_pairs(*geometry.boxes, *TWO, RATIO))
        assert correspondence.monitors(geometry) == {}
    assert estimator.calls == []


def test_estimator_is_no_part_of_a_model():
    model = nn.Module()
    model.correspondence = FlowCorrespondence(RATIO, estimator=Estimator())
    assert list(model.parameters()) == []
    assert model.state_dict() == {}


def test_monitors():
    box = [0.0, 0.0, 64.0, 64.0]
    correspondence = FlowCorrespondence(RATIO, official_rounding=True)
    batch = make_batch([(box, box)], [(64, 64)], [constant(1.0, size=(8, 8))], [constant(-1.0, size=(8, 8))])
    monitors = correspondence.monitors(correspondence.geometry(batch, CPU))
    # Bins are at 4.5, 13.5 ... 58.5 px and move by 8: there the last column leaves the frame, back the first one.
    assert monitors["valid_pixels"].item() == pytest.approx(6 / 7)
    assert monitors["displacement"].item() == pytest.approx(8.0)
    batch = make_batch([(box, box)], [(64, 64)], [constant(9.0, size=(8, 8))], [constant(-9.0, size=(8, 8))])
    monitors = correspondence.monitors(correspondence.geometry(batch, CPU))
    assert {name: value.item() for name, value in monitors.items()} == {"valid_pixels": 0, "displacement": 0}


def test_autocast_does_not_change_the_masks():
    rng = random.Random(2)
    pairs = [random_pair(rng, HD) for _ in range(8)]
    there = [torch.rand(3, 2, 9, 16, generator=torch.Generator().manual_seed(n)) for n in range(8)]
    batch = make_batch(pairs, [HD] * 8, there, [-flow.flip(0) for flow in there])
    correspondence = FlowCorrespondence(RATIO, alpha2=100.0)
    expected = correspondence(correspondence.geometry(batch, CPU), SEVEN)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = correspondence(correspondence.geometry(batch, CPU), SEVEN)
    assert all(torch.equal(*both) for both in zip(masks, expected))
    assert expected[0].any()
