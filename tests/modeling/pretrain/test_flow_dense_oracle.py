"""The point-wise maths against dense fields, composed and masked as the released code of PixPro with optical flow does.

Here everything is done in float64 on whole fields (2, h, w) of vectors, which is what the package avoids.
"""

import math
import random

import numpy as np
import pytest
import torch
from motion_helpers import one_motion

from pixpro_d2.modeling.pretrain.flow_correspondence import FlowCorrespondence
from pixpro_d2.modeling.pretrain.flow_points import chain_points, track_points

CPU = torch.device("cpu")
ALPHAS = (0.01, 0.5)
SIZE = (40, 60)
RATIO = 0.7


# The oracle


def lattice(size):
    """Grid positions (2, h, w) as (x, y)."""
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0]))).astype(float)


def bilinear(field, points):
    """``field`` (c, h, w) at ``points`` (2, ...) in its grid units, zero outside."""
    height, width = field.shape[1:]
    low = np.floor(points).astype(int)
    total = np.zeros((len(field), *points.shape[1:]))
    for x in (low[0], low[0] + 1):
        for y in (low[1], low[1] + 1):
            weight = (1 - abs(points[0] - x)) * (1 - abs(points[1] - y))
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            total += weight * inside * field[:, y.clip(0, height - 1), x.clip(0, width - 1)]
    return total


def compose(flows):
    """One field (2, h, w) of flows (m, 2, h, w) in the order of use."""
    start = lattice(flows.shape[-2:])
    points = start
    for flow in flows:
        points = points + bilinear(flow, points)
    return points - start


def enlarge(flow, size):
    """A flow (2, h, w) brought to a frame's size (H, W), with corners aligned and vectors in pixels."""
    scale = np.array([(a - 1) / (b - 1) for a, b in zip(flow.shape[:0:-1], size[::-1])]).reshape(2, 1, 1)
    length = np.array([b / a for a, b in zip(flow.shape[:0:-1], size[::-1])]).reshape(2, 1, 1)
    last = np.array(flow.shape[:0:-1]).reshape(2, 1, 1) - 1
    return length * bilinear(flow, np.minimum(lattice(size) * scale, last))


def released_mask(there, back, alpha1, alpha2):
    """Valid pixels (h, w) of composed fields, in normalised coordinates and with a strict border."""
    height, width = there.shape[1:]
    half = np.array([width - 1, height - 1]).reshape(2, 1, 1) / 2
    end = lattice((height, width)) + there
    inside = (abs(end / half - 1) < 1).all(axis=0)
    forward, backward = there / half, bilinear(back, end) / half
    tolerance = alpha1 * ((forward**2).sum(0) + (backward**2).sum(0)) + alpha2 / math.hypot(height, width)
    return inside & (((forward + backward) ** 2).sum(0) <= tolerance)


def pixel_mask(there, back, alpha1, alpha2):
    """Valid pixels (H, W) of composed fields of the frame's size by paper Eq. 3; the border is inside."""
    height, width = there.shape[1:]
    end = lattice((height, width)) + there
    inside = (end[0] >= 0) & (end[0] <= width - 1) & (end[1] >= 0) & (end[1] <= height - 1)
    backward = bilinear(back, end)
    tolerance = alpha1 * ((there**2).sum(0) + (backward**2).sum(0)) + alpha2
    return inside & (((there + backward) ** 2).sum(0) < tolerance)


def released_centers(box, size, grid):
    """Centres (2, L) in pixels of the bins of a crop of whole pixels; from its normalised coordinates."""
    (height, width), (rows, columns) = size, grid
    x1, x2 = sorted((box[0], box[2]))
    x1, x2 = x1 / (width - 1), (x2 - 1) / (width - 1)
    if box[0] > box[2]:
        x1, x2 = x2, x1
    y1, y2 = box[1] / (height - 1), (box[3] - 1) / (height - 1)
    bin_width, bin_height = (x2 - x1) / columns, (y2 - y1) / rows
    x = [((column + 0.5) * bin_width + x1) * (width - 1) for _ in range(rows) for column in range(columns)]
    y = [((row + 0.5) * bin_height + y1) * (height - 1) for row in range(rows) for _ in range(columns)]
    return np.array([x, y]), math.hypot(bin_width * (width - 1), bin_height * (height - 1))


def released_distances(box_q, box_k, size, grid, there, back, masked):
    """Distances (L, L) in bin diagonals from the moved queries to the keys; infinite for invalid queries.

    ``there`` and ``back`` are composed fields of any resolution.
    """
    centers_q, unit_q = released_centers(box_q, size, grid)
    centers_k, unit_k = released_centers(box_k, size, grid)
    (height, width), (h, w) = size, there.shape[1:]
    position = np.array([(w - 1) / (width - 1), (h - 1) / (height - 1)]).reshape(2, 1)
    points = centers_q * position
    moved = centers_q + bilinear(there, points) * np.array([width / w, height / h]).reshape(2, 1)
    distances = np.hypot(*(moved[:, :, None] - centers_k[:, None, :])) / max(unit_q, unit_k)
    if masked:
        x, y = np.rint(points).astype(int)
        distances[~released_mask(there, back, *ALPHAS)[y, x]] = np.inf
    return distances


# Flows


def constant_flows(rng, steps, size):
    return np.broadcast_to(np.array([1.3, -0.7]).reshape(1, 2, 1, 1), (steps, 2, *size))


def affine_flows(rng, steps, size):
    """Every step enlarges and shears the frame a little around a point, another one in each step."""
    flows = []
    for step in range(steps):
        x, y = lattice(size) - np.array([size[1] * (0.4 + 0.05 * step), size[0] * 0.5]).reshape(2, 1, 1)
        flows.append(np.stack((0.03 * x + 0.02 * y, 0.04 * y - 0.01 * x)))
    return np.stack(flows)


def smooth_flows(rng, steps, size):
    """Waves of about the frame's size, up to about two grid units high."""
    x, y = lattice(size) / max(size) * 2 * np.pi
    waves = [[rng.uniform(-0.8, 0.8), *rng.uniform(-0.7, 0.7, 2), rng.uniform(0, 7)] for _ in range(steps * 2 * 3)]
    fields = np.stack([height * np.sin(a * x + b * y + phase) for height, a, b, phase in waves])
    return fields.reshape(steps, 2, 3, *size).sum(axis=2)


FLOWS = pytest.mark.parametrize("make", [constant_flows, affine_flows, smooth_flows])


def there_and_back(rng, make, steps, size):
    """Flows there, and flows back that are off by up to about a grid unit in places."""
    there = make(rng, steps, size)
    return there, -there[::-1] + smooth_flows(rng, steps, size) * 0.4


def as_motion(there, back, size):
    return one_motion(torch.tensor(there), torch.tensor(back), size)


def as_points(positions):
    """(2, ...) to (1, L, 2)."""
    return torch.tensor(positions.reshape(2, -1).T, dtype=torch.float32)[None]


def chained(positions, flows, size):
    """Displacements (2, ...) and (...) whether inside, of the package."""
    motion = as_motion(flows, flows, size)
    displacements, inside = chain_points(as_points(positions), motion.there, motion.scale)
    return displacements[0].T.reshape(positions.shape).numpy(), inside[0].view(positions.shape[1:]).numpy()


# Tests


def test_the_oracle_by_hand():
    # 1 px right in each of five steps, until a pixel is outside.
    composed = compose(np.broadcast_to(np.array([1.0, 0.0]).reshape(1, 2, 1, 1), (5, 2, 8, 16)))
    assert composed[0, 4].tolist() == [5.0] * 12 + [4.0, 3.0, 2.0, 1.0]
    zero = np.zeros((2, 8, 16))
    assert released_mask(zero, zero, *ALPHAS).sum() == 84
    assert pixel_mask(zero, zero, *ALPHAS).sum() == 128
    three = zero + np.array([3.0, 0.0]).reshape(2, 1, 1)
    assert released_mask(three, -three, *ALPHAS).sum() == 72
    assert enlarge(np.full((2, 8, 16), 0.5), (64, 128))[:, 20, 30].tolist() == [4.0, 4.0]


@FLOWS
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_pixels_go_where_composed_fields_say(make, steps):
    flows = make(np.random.default_rng(steps), steps, SIZE)
    displacements, inside = chained(lattice(SIZE), flows, SIZE)
    np.testing.assert_allclose(displacements, compose(flows), atol=2e-4)
    assert 0.4 < inside.mean() < 1


# Of two interpolations one comes before and one after adding the steps up.
@pytest.mark.parametrize("make, tolerance", [(constant_flows, 2e-4), (affine_flows, 2e-4), (smooth_flows, 0.05)])
@pytest.mark.parametrize("low", [SIZE, (10, 15)], ids=["full", "quarter"])
def test_points_between_pixels_go_where_composed_fields_say(make, tolerance, low):
    rng = np.random.default_rng(0)
    flows = make(rng, 5, low)
    points = rng.uniform(0, 1, (2, 500)) * np.array([SIZE[1] - 1, SIZE[0] - 1]).reshape(2, 1)
    displacements, inside = chained(points, flows, SIZE)
    # The fields of the frame's size freeze points within a pixel of it, small ones within one of their grid units; so
    # take points of which all pixels around stay inside.
    composed = compose(np.stack([enlarge(flow, SIZE) for flow in flows]))
    _, inside_of_pixels = chained(lattice(SIZE), flows, SIZE)
    inside &= bilinear(inside_of_pixels[None].astype(float), points)[0] > 1 - 1e-6
    assert inside.mean() > 0.3
    np.testing.assert_allclose(displacements[:, inside], bilinear(composed, points)[:, inside], atol=tolerance)


@FLOWS
@pytest.mark.parametrize("consistency, oracle", [("pixel", pixel_mask), ("legacy", released_mask)])
@pytest.mark.parametrize("steps", [1, 5])
def test_validity_of_pixels_is_that_of_composed_fields(make, consistency, oracle, steps):
    there, back = there_and_back(np.random.default_rng(steps + 1), make, steps, SIZE)
    # With the published alphas the released tolerance is some px here; smaller ones reject pixels inside too.
    alphas = (0.01, 0.1) if consistency == "pixel" else (0.001, 0.015)
    _, valid = track_points(as_points(lattice(SIZE)), as_motion(there, back, SIZE), consistency, *alphas)
    expected = oracle(compose(there), compose(back), *alphas)
    agreement = (valid[0].view(SIZE).numpy() == expected).mean()
    assert agreement == 1 if steps == 1 else agreement > 0.98
    # Both rules decide: without the tolerance the border alone would reject fewer.
    assert 0.03 < expected.mean() < oracle(compose(there), compose(back), 0.0, np.inf).mean() - 0.01


def test_released_validity_of_a_small_flow():
    there, back = there_and_back(np.random.default_rng(3), smooth_flows, 1, (10, 15))
    alphas = (0.001, 0.1)
    points = np.random.default_rng(4).uniform(0, 1, (2, 500)) * np.array([SIZE[1] - 1, SIZE[0] - 1]).reshape(2, 1)
    _, valid = track_points(as_points(points), as_motion(there, back, SIZE), "legacy_coarse", *alphas)
    x, y = np.rint(points * np.array([14 / 59, 9 / 39]).reshape(2, 1)).astype(int)
    expected = released_mask(compose(there), compose(back), *alphas)[y, x]
    assert valid[0].tolist() == expected.tolist()
    assert 0.1 < expected.mean() < 0.9


def test_released_validity_of_a_small_flow_at_full_resolution():
    there, back = there_and_back(np.random.default_rng(3), smooth_flows, 1, (10, 15))
    alphas = (0.001, 0.4)  # the diagonal that divides alpha2 is four times the flow's
    points = np.random.default_rng(4).uniform(0, 1, (2, 500)) * np.array([SIZE[1] - 1, SIZE[0] - 1]).reshape(2, 1)
    _, valid = track_points(as_points(points), as_motion(there, back, SIZE), "legacy", *alphas)
    x, y = np.rint(points).astype(int)
    expected = released_mask(enlarge(there[0], SIZE), enlarge(back[0], SIZE), *alphas)[y, x]
    assert (valid[0].numpy() == expected).mean() > 0.99  # but for rounding at the tolerance
    assert 0.1 < expected.mean() < 0.9


def test_constant_motion_there_and_back_cancels():
    there = constant_flows(None, 5, SIZE)
    displacements, inside = chained(lattice(SIZE), there, SIZE)
    ends = lattice(SIZE) + displacements
    back, _ = chained(ends, -there, SIZE)
    assert inside.any()
    assert (displacements + back)[:, inside].tolist() == np.zeros((2, inside.sum())).tolist()


@FLOWS
@pytest.mark.parametrize("consistency", ["legacy_coarse", "none"])
@pytest.mark.parametrize("steps", [1, 5])
def test_positives_are_those_of_the_released_rule(make, consistency, steps):
    rng, grid, low = random.Random(steps), (7, 7), (10, 15)
    boxes, there, back, distances = [], [], [], []
    for n in range(12):
        flows = there_and_back(np.random.default_rng(n), make, steps, low)
        pair = []
        for _ in range(2):
            w, h = rng.randint(25, 60), rng.randint(20, 40)
            x, y = rng.randint(0, 60 - w), rng.randint(0, 40 - h)
            pair.append([float(v) for v in ((x + w, y, x, y + h) if rng.random() < 0.5 else (x, y, x + w, y + h))])
        forward, backward = map(compose, flows)
        masked = consistency != "none"
        distances.append(
            (
                released_distances(*pair, SIZE, grid, forward, backward, masked),
                released_distances(*pair[::-1], SIZE, grid, backward, forward, masked),
            )
        )
        boxes.append(pair)
        there.append(flows[0])
        back.append(flows[1])
    batch = {
        "boxes": torch.tensor(boxes),
        "image_sizes": torch.tensor([SIZE] * 12, dtype=torch.float32),
        "flow_there": torch.tensor(np.stack(there)),
        "flow_back": torch.tensor(np.stack(back)),
        "flow_sizes": torch.tensor([low] * 12),
    }
    correspondence = FlowCorrespondence(RATIO, official_rounding=True, consistency=consistency)
    masks = correspondence(correspondence.geometry(batch, CPU), (grid, grid))
    for mask, expected in zip(masks, (np.stack(direction) for direction in zip(*distances))):
        # One step: the same but for rounding. More: the chained points are some hundredths of a bin off.
        clear = abs(expected - RATIO) > (1e-4 if steps == 1 else 0.05)
        differing = (mask.numpy() != (expected < RATIO)) & clear
        assert differing.sum() == 0 if steps == 1 else differing.sum() < 0.05 * mask.sum()
        assert mask.sum() > 300
