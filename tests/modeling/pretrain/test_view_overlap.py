"""The part that two views share, and maps cut to it: cases S4 to S7 by numbers."""

import pytest
import torch
from slot_helpers import close, features, whole

from pixpro_d2.modeling.pretrain.slots import resample_overlap
from pixpro_d2.modeling.pretrain.view_overlap import ViewOverlap, view_overlaps


def at(box, flip=False, n=1):
    return ViewOverlap(torch.tensor([box] * n, dtype=torch.float32), torch.tensor([flip] * n))


def ramp(height=4, width=4):
    return (10.0 * torch.arange(height)[:, None] + torch.arange(width))[None, None]


@pytest.mark.parametrize(
    "box, flip, expected",
    [
        ((0, 0, 1, 1), False, "0 1 2 3 / 10 11 12 13 / 20 21 22 23 / 30 31 32 33"),
        ((0, 0, 1, 1), True, "3 2 1 0 / 13 12 11 10 / 23 22 21 20 / 33 32 31 30"),
        (
            (0.25, 0.5, 0.75, 1),
            False,
            "18.25 18.75 19.25 19.75 / 23.25 23.75 24.25 24.75 / 28.25 28.75 29.25 29.75 / 30.75 31.25 31.75 32.25",
        ),
        (
            (0.25, 0.5, 0.75, 1),
            True,
            "19.75 19.25 18.75 18.25 / 24.75 24.25 23.75 23.25 / 29.75 29.25 28.75 28.25 / 32.25 31.75 31.25 30.75",
        ),
        ((0.5, 0, 1, 0.25), False, "1.75 2.25 2.75 3 / 1.75 2.25 2.75 3 / 3 3.5 4 4.25 / 5.5 6 6.5 6.75"),
    ],
)
def test_resampling_by_numbers(box, flip, expected):
    close(resample_overlap(ramp(), at(box, flip)), expected)


def test_resampling_of_other_sizes_by_numbers():
    tilted = resample_overlap(ramp(), at((0.1, 0.2, 0.7, 0.9)))[0, 0]
    close(tilted[0], "6.7 7.3 7.9 8.5")
    close(tilted[1] - tilted[0], "7 7 7 7")
    close(resample_overlap(ramp(2, 3), at((0.25, 0.25, 1, 0.75))), "3.125 3.875 4.5 / 8.125 8.875 9.5")


FIRST = "21.5 23 24.5 25.75 / 39 40.5 42 43.25 / 56.5 58 59.5 60.75 / 72.75 74.25 75.75 77"
SECOND = "23 24.25 25.75 27.25 / 39.25 40.5 42 43.5 / 56.75 58 59.5 61 / 74.25 75.5 77 78.5"


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_two_views_of_one_photo(flips):
    """Value 10 v + u at the place (u, v) of the photo, seen by two crops of 8 x 8 pixels on 4 x 4 cells."""
    crops = [[0.0, 0, 8, 8], [2.0, 1, 10, 9]]
    boxes, maps = [], []
    for (x0, y0, x1, y1), flip in zip(crops, flips):
        boxes.append(torch.tensor([[x1, y0, x0, y1] if flip else [x0, y0, x1, y1]]))
        centers = 2 * torch.arange(4) + 1.0
        plane = 10 * (y0 + centers)[:, None] + x0 + centers
        maps.append((plane.flip(1) if flip else plane)[None, None])
    overlaps = view_overlaps(boxes)
    first, second = (resample_overlap(plane, overlap)[0, 0] for plane, overlap in zip(maps, overlaps))
    close(first, FIRST)
    close(second, SECOND)
    close(first[1:3, 1:3], second[1:3, 1:3])


@pytest.mark.parametrize(
    "flips, expected",
    [
        ((False, False), [[0.25, 0.125, 1, 1], [0, 0, 0.75, 0.875]]),
        ((True, True), [[0, 0.125, 0.75, 1], [0.25, 0, 1, 0.875]]),
    ],
)
def test_boxes_of_the_common_part(flips, expected):
    crops = [[0.0, 0, 8, 8], [2.0, 1, 10, 9]]
    boxes = [torch.tensor([[x1, y0, x0, y1] if f else [x0, y0, x1, y1]]) for (x0, y0, x1, y1), f in zip(crops, flips)]
    for overlap, box, flip in zip(view_overlaps(boxes), expected, flips):
        close(overlap.boxes, [box])
        assert overlap.flipped.tolist() == [flip] and overlap.exists.tolist() == [True]


@pytest.mark.parametrize(
    "flips, expected",
    [
        ((False, False), "0.425 0.216667 1 1 / 0 0 0.736 0.626667"),
        ((True, True), "0 0.216667 0.575 1 / 0.264 0 1 0.626667"),
    ],
)
def test_boxes_of_the_common_part_of_a_photo(flips, expected):
    """Crops (top, left, height, width) (48, 64, 240, 320) and (100, 200, 300, 250) of 640 x 480 pixels (S6)."""
    boxes = []
    for (top, left, height, width), flip in zip(((48, 64, 240, 320), (100, 200, 300, 250)), flips):
        x0, x1 = (left + width, left) if flip else (left, left + width)
        boxes.append(torch.tensor([[x0, top, x1, top + height]]) / torch.tensor([640.0, 480, 640, 480]))
    close(torch.cat([overlap.boxes for overlap in view_overlaps(boxes)]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "box", [(1, 0, 1, 1), (1.25, 0, 1, 1), (0, 0, -0.25, 1), (2, 0, 1, 1), (0, 0, -1, 1), (2, 2, 1, 1)]
)
def test_views_without_overlap_give_zeros_and_no_gradient(box):
    maps = (ramp() + 1).requires_grad_()
    resampled = resample_overlap(maps, at(box))
    assert not resampled.any() and not at(box).exists
    resampled.sum().backward()
    assert not maps.grad.any()


def test_a_corner_in_common_has_the_value_of_the_corner():
    close(resample_overlap(ramp() + 1, at((0.875, 0.875, 1, 1))), torch.full((4, 4), 34.0))


def test_touching_crops_do_not_overlap_in_spite_of_rounding():
    """Crops that share an edge at all columns of an image of 641 pixels."""
    edges = torch.arange(1, 641) / 641
    first = torch.stack((torch.zeros(640), torch.zeros(640), edges, torch.ones(640)), dim=1)
    second = torch.stack((edges, torch.zeros(640), torch.ones(640), torch.ones(640)), dim=1)
    for mirrored in (first, first[:, [2, 1, 0, 3]]):
        assert not any(overlap.exists.any() for overlap in view_overlaps((mirrored, second)))


def test_equal_crops_are_not_resampled():
    maps = features()[0].float()
    torch.testing.assert_close(resample_overlap(maps, whole(2)), maps, atol=1e-6, rtol=0)
