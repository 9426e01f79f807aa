import math
import random

import oracle
import pytest
import torch

from pixpro_d2.modeling.pretrain.correspondence import bin_centers, bin_diagonals, normalize_boxes, positive_pairs

RATIO = 0.7

# boxes_q, boxes_k, grid, ratio, positives of each image
CASES = [
    pytest.param([oracle.IDENTICAL], [oracle.IDENTICAL], (2, 2), RATIO, [4], id="T1-identical"),
    pytest.param([oracle.IDENTICAL], [oracle.IDENTICAL], (2, 2), 0.72, [12], id="T1-ratio-.72"),
    pytest.param([oracle.DISJOINT[0]], [oracle.DISJOINT[1]], (2, 2), RATIO, [0], id="T2-disjoint"),
    pytest.param([oracle.IDENTICAL], [oracle.FLIPPED], (2, 2), RATIO, [4], id="T3-flipped-key"),
    pytest.param([oracle.FLIPPED], [oracle.FLIPPED], (2, 2), RATIO, [4], id="T3-both-flipped"),
    pytest.param([oracle.IDENTICAL], [oracle.HALF], (2, 2), RATIO, [2], id="T4-half-overlap"),
    pytest.param([oracle.IDENTICAL], [oracle.ZOOM], (2, 2), RATIO, [8], id="T5-zoom"),
    pytest.param(
        [oracle.IDENTICAL, oracle.DISJOINT[0]],
        [oracle.IDENTICAL, oracle.DISJOINT[1]],
        (2, 2),
        RATIO,
        [4, 0],
        id="T6-one-disjoint",
    ),
    pytest.param(*oracle.OBLONG, (2, 3), RATIO, None, id="T7-oblong-grid"),
    pytest.param(*oracle.TWO_IMAGES, (7, 7), RATIO, None, id="T8-two-images"),
]


def random_boxes(count, seed, scale=1.0, offset=0.0):
    """Boxes of random extent, about half of them flipped horizontally and a quarter vertically."""
    rng = random.Random(seed)
    boxes = []
    for _ in range(count):
        w, h = rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.9)
        x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
        x0, x1 = (x + w, x) if rng.random() < 0.5 else (x, x + w)
        y0, y1 = (y + h, y) if rng.random() < 0.25 else (y, y + h)
        boxes.append([offset + scale * v for v in (x0, y0, x1, y1)])
    return boxes


def assert_masks_equal(fast, boxes_q, boxes_k, grid_q, grid_k, ratio, margin):
    """Compares with the slow masks.

    Pairs within ``margin`` of the threshold, which float32 may round to its other side, are left out and must
    be rare.
    """
    close, total, matched = 0, 0, 0
    for n, (box_q, box_k) in enumerate(zip(boxes_q, boxes_k, strict=True)):
        distances = oracle.distances_slow(box_q, box_k, grid_q, grid_k)
        clear = (distances - ratio).abs() > margin
        slow = oracle.positive_mask_slow(box_q, box_k, grid_q, grid_k, ratio)
        assert torch.equal(fast[n][clear], slow[clear]), f"image {n}"
        close += int((~clear).sum())
        total += clear.numel()
        matched += int(slow.sum())
    assert matched > 0
    assert close < 0.01 * total


@pytest.mark.parametrize("boxes_q, boxes_k, grid, ratio, counts", CASES)
def test_mask_of_numeric_cases(boxes_q, boxes_k, grid, ratio, counts):
    mask = positive_pairs(torch.tensor(boxes_q), torch.tensor(boxes_k), grid, grid, ratio)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, oracle.masks_slow(boxes_q, boxes_k, grid, grid, ratio))
    if counts is not None:
        assert mask.sum(dim=(1, 2)).tolist() == counts


@pytest.mark.parametrize(
    "box_q, box_k, pairs, rows",
    [
        pytest.param(oracle.IDENTICAL, oracle.IDENTICAL, 49, 49, id="T9-identical"),
        pytest.param(oracle.IDENTICAL, oracle.HALF, 49, 28, id="T9-half-overlap"),
        pytest.param(oracle.IDENTICAL, oracle.ZOOM, 133, 16, id="T9-zoom"),
        pytest.param(*oracle.TOUCHING, 0, 0, id="T9-touching-corners"),
        *(
            pytest.param([0.0, 0.0, 224.0, 224.0], [s, 0.0, 224.0 + s, 224.0], 91, 49, id=f"T9-shift-{s}px")
            for s in (1, 2, 3, 4, 8, 16)
        ),
    ],
)
def test_number_of_positives_on_7x7(box_q, box_k, pairs, rows):
    mask = positive_pairs(torch.tensor([box_q]), torch.tensor([box_k]), (7, 7), (7, 7), RATIO)
    assert mask.shape == (1, 49, 49)
    assert int(mask.sum()) == pairs
    assert int(mask.any(dim=2).sum()) == rows


def test_identical_crops_match_on_the_diagonal_only():
    boxes = torch.tensor([oracle.IDENTICAL])
    mask = positive_pairs(boxes, boxes, (7, 7), (7, 7), RATIO)
    assert torch.equal(mask[0], torch.eye(49, dtype=torch.bool))


def test_mask_is_query_by_key():
    # The transposed mask is as plausible a matrix, but gives another loss.
    q, k = oracle.features(1, 4, 2, 2)
    boxes_q, boxes_k = torch.tensor([oracle.IDENTICAL]), torch.tensor([oracle.HALF])
    mask = positive_pairs(boxes_q, boxes_k, (2, 2), (2, 2), RATIO)
    assert oracle.pixpro_loss_from_masks_slow(q, k, mask).item() == pytest.approx(0.136176, abs=1e-5)
    transposed = oracle.pixpro_loss_from_masks_slow(q, k, mask.transpose(1, 2))
    assert transposed.item() == pytest.approx(0.0948, abs=5e-5)


def test_a_pair_at_exactly_the_ratio_is_no_match():
    # Bins of 3 x 4, so of diagonal 5, at a distance of 2.5: the comparison of the official code is strict.
    boxes_q, boxes_k = torch.tensor([[0.0, 0.0, 3.0, 4.0]]), torch.tensor([[2.5, 0.0, 5.5, 4.0]])
    assert not positive_pairs(boxes_q, boxes_k, (1, 1), (1, 1), 0.5).any()
    assert positive_pairs(boxes_q, boxes_k, (1, 1), (1, 1), 0.51).all()


def test_swapping_the_views_transposes_the_mask():
    boxes_q, boxes_k = (torch.tensor(boxes) for boxes in oracle.TWO_IMAGES)
    there = positive_pairs(boxes_q, boxes_k, (5, 7), (4, 3), RATIO)
    back = positive_pairs(boxes_k, boxes_q, (4, 3), (5, 7), RATIO)
    assert torch.equal(there, back.transpose(1, 2))


@pytest.mark.parametrize(
    "grid_q, grid_k, ratio",
    [((7, 7), (7, 7), 0.7), ((3, 5), (6, 4), 0.7), ((4, 9), (2, 3), 1.4), ((1, 8), (7, 2), 0.35)],
    ids=["7x7", "3x5-6x4", "4x9-2x3", "1x8-7x2"],
)
def test_random_signed_boxes_against_slow_mask(grid_q, grid_k, ratio):
    boxes_q, boxes_k = random_boxes(8, seed=1), random_boxes(8, seed=2)
    fast = positive_pairs(torch.tensor(boxes_q), torch.tensor(boxes_k), grid_q, grid_k, ratio)
    assert fast.shape == (8, math.prod(grid_q), math.prod(grid_k))
    assert_masks_equal(fast, boxes_q, boxes_k, grid_q, grid_k, ratio, margin=1e-5)


def test_boxes_far_from_the_origin_keep_their_precision():
    # Expanding |a - b|^2 into products would lose the difference of coordinates of thousands of pixels.
    boxes_q = random_boxes(4, seed=3, scale=224.0, offset=20000.0)
    boxes_k = random_boxes(4, seed=4, scale=224.0, offset=20000.0)
    fast = positive_pairs(torch.tensor(boxes_q), torch.tensor(boxes_k), (7, 7), (7, 7), RATIO)
    assert_masks_equal(fast, boxes_q, boxes_k, (7, 7), (7, 7), RATIO, margin=1e-3)


def test_bin_centers_and_diagonals():
    boxes = random_boxes(5, seed=5)
    centers = bin_centers(torch.tensor(boxes), (3, 4))
    assert centers.shape == (5, 12, 2)
    slow = torch.tensor([oracle.bin_centers_slow(box, (3, 4)) for box in boxes])
    torch.testing.assert_close(centers, slow, atol=1e-6, rtol=0)
    diagonals = bin_diagonals(torch.tensor(boxes), (3, 4))
    slow = torch.tensor([oracle.bin_diagonal_slow(box, (3, 4)) for box in boxes])
    torch.testing.assert_close(diagonals, slow, atol=1e-6, rtol=0)


def test_centers_of_a_flipped_view_run_from_right_to_left():
    centers = bin_centers(torch.tensor([oracle.FLIPPED]), (1, 4))
    torch.testing.assert_close(centers[0, :, 0], torch.tensor([0.875, 0.625, 0.375, 0.125]))
    torch.testing.assert_close(centers[0, :, 1], torch.full((4,), 0.5))


@pytest.mark.parametrize("grid", [(2, 2), (7, 7)], ids=["2x2", "7x7"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_autocast_does_not_change_the_mask(grid, dtype):
    boxes_q = torch.tensor(random_boxes(16, seed=6) + [oracle.IDENTICAL, [0.0, 0.0, 224.0, 224.0]])
    boxes_k = torch.tensor(random_boxes(16, seed=7) + [oracle.IDENTICAL, [1.0, 0.0, 225.0, 224.0]])
    expected = positive_pairs(boxes_q, boxes_k, grid, grid, RATIO)
    with torch.autocast("cpu", dtype=dtype):
        mask = positive_pairs(boxes_q, boxes_k, grid, grid, RATIO)
    assert torch.equal(mask, expected)


def test_the_mask_has_no_graph():
    boxes = torch.tensor([oracle.IDENTICAL], requires_grad=True)
    assert not positive_pairs(boxes, boxes, (2, 2), (2, 2), RATIO).requires_grad


@pytest.mark.parametrize(
    "flip, expected",
    [
        pytest.param(False, [0.100156, 0.100209, 0.599374, 0.599165], id="T16"),
        pytest.param(True, [0.599374, 0.100209, 0.100156, 0.599165], id="T16-flipped"),
    ],
)
def test_official_rounding(flip, expected):
    # 240 x 320 crop at top 48, left 64 of an image 640 wide and 480 high.
    box = [384.0, 48.0, 64.0, 288.0] if flip else [64.0, 48.0, 384.0, 288.0]
    coordinates = normalize_boxes(torch.tensor([box]), torch.tensor([[480, 640]]), official_rounding=True)
    torch.testing.assert_close(coordinates, torch.tensor([expected]), atol=1e-5, rtol=0)
    slow = oracle.crop_to_coordinates(48, 64, 240, 320, 480, 640, flip=flip, official=True)
    torch.testing.assert_close(coordinates, torch.tensor([slow]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("official", [False, True], ids=["edges", "official"])
def test_normalised_units_of_a_mixed_batch(official):
    # top, left, height, width, image height, image width, flip
    crops = [(48, 64, 240, 320, 480, 640, False), (0, 3, 100, 20, 100, 50, True), (7, 0, 9, 33, 77, 33, True)]
    boxes, sizes, slow = [], [], []
    for top, left, h, w, image_h, image_w, flip in crops:
        x0, x1 = (left + w, left) if flip else (left, left + w)
        boxes.append([x0, top, x1, top + h])
        sizes.append([image_h, image_w])
        slow.append(oracle.crop_to_coordinates(top, left, h, w, image_h, image_w, flip, official))
    given = torch.tensor(boxes, dtype=torch.float32)
    before = given.clone()
    coordinates = normalize_boxes(given, torch.tensor(sizes), official_rounding=official)
    torch.testing.assert_close(coordinates, torch.tensor(slow), atol=1e-6, rtol=0)
    assert torch.equal(given, before)


def test_pixel_units_leave_boxes_unchanged():
    boxes = torch.tensor([[64.0, 48.0, 384.0, 288.0], [384.0, 48.0, 64.0, 288.0]])
    sizes = torch.tensor([[480, 640], [300, 900]])
    assert torch.equal(normalize_boxes(boxes, sizes, units="pixel"), boxes)


def test_official_rounding_of_pixel_units():
    # The centres of the first and last pixel of 640 x 720 in a frame of 1280 x 720, counted from the frame's first.
    boxes = torch.tensor([[640.0, 0.0, 1280.0, 720.0], [1280.0, 0.0, 640.0, 720.0]])
    coordinates = normalize_boxes(boxes, torch.tensor([[720, 1280]] * 2), "pixel", official_rounding=True)
    assert coordinates.tolist() == [[640.0, 0.0, 1279.0, 719.0], [1279.0, 0.0, 640.0, 719.0]]


def test_pixel_units_are_isotropic_where_normalised_ones_are_not():
    # 224 px crops of an image four times as wide as high, moved by 10 px to the right or downwards.
    grid = (7, 7)
    crop, right, down = [100.0, 0.0, 324.0, 224.0], [110.0, 0.0, 334.0, 224.0], [100.0, 10.0, 324.0, 234.0]
    sizes = torch.tensor([[250, 1000]])

    def masks(units):
        query, *keys = (normalize_boxes(torch.tensor([box]), sizes, units) for box in (crop, right, down))
        return [positive_pairs(query, key, grid, grid, RATIO)[0].view(7, 7, 7, 7) for key in keys]

    to_right, to_bottom = masks("pixel")
    assert int(to_right.sum()) == 91
    assert torch.equal(to_right, to_bottom.permute(1, 0, 3, 2))
    to_right, to_bottom = masks("normalized")
    assert not torch.equal(to_right, to_bottom.permute(1, 0, 3, 2))
