"""The functions of SlotCon by numbers and by loops."""

import math

import pytest
import slot_oracle
import torch
from data_helpers import normal
from detectron2.utils import comm
from distributed_helpers import in_processes
from slot_helpers import C0, OVERLAPS, P, Q, close, features

from pixpro_d2.modeling.pretrain.slots import (
    assignment_statistics,
    attention,
    grouping_losses,
    least_pixels,
    pool_slots,
    present_first,
    present_slots,
    prototype_scores,
    resample_overlap,
    slot_contrast,
    updated_center,
)
from pixpro_d2.modeling.pretrain.unit import unit
from pixpro_d2.modeling.pretrain.view_overlap import ViewOverlap

X, Y = features()


def scores_of(x, prototypes):
    return prototype_scores(unit(x), prototypes)


# S1, S2: scores, soft assignment, slots


def test_scores_and_assignment_by_numbers():
    scores = scores_of(X, P)
    close(scores[0, :, 0, 0], "-.291224 -.355438 .001311 .318215 .327840")
    close(scores[1, :, 2, 1], "-.083086 .044383 .111497 .074934 -.057427")
    close(scores.sum(), -0.043228)
    close(scores.square().sum(), 7.346247)
    close(attention(scores, 0.07)[0, :, 0] - 1e-6, ".000077 .000031 .005009 .463299 .531585")
    close((scores[0, :, 0, 0] / 0.1).softmax(0), ".001051 .000553 .019587 .465872 .512938")
    winners = scores.argmax(dim=1).tolist()
    assert winners == [[[4, 4, 4], [1, 1, 1], [3, 4, 4]], [[1, 3, 4], [4, 0, 1], [1, 2, 4]]]


def test_slots_by_numbers():
    """Neither the mean of unit vectors, (.221267 ...), nor a softmax over pixels, (-.449019 ...)."""
    slots = pool_slots(attention(scores_of(X, P), 0.07), X)
    close(slots[0, 0], ".377381 -.619851 .752149 -.750760")
    close(slots[1, 3], "-.294416 .589104 -.779084 .830591")
    close(slots.sum(), 0.165525)
    close(slots.square().sum(), 12.912351, atol=2e-5)
    close(slots[0].norm(dim=1), "1.286857 .685310 1.422435 1.054770 .808298")


@pytest.mark.parametrize(
    "values, expected",
    [
        ([1.0, -2, 3, 4], [2.666665, -1.999986]),  # without the 1e-6: 2.666667 and -2
        ([1.0, 2, 3, 4], [2.5, 2.5]),  # a prototype that wins nowhere gets the plain mean
    ],
)
def test_a_little_attention_everywhere(values, expected):
    maps = torch.tensor([[values, [0.0] * 4]]).view(1, 2, 2, 2)
    shares = attention(scores_of(maps, torch.tensor([[1.0, 0], [-1, 0]])), 0.07)
    close(pool_slots(shares, maps)[0], [[expected[0], 0], [expected[1], 0]], atol=1.5e-6)


def test_slots_of_constant_features_are_these():
    constant = torch.tensor([1.0, 2, 3, 4])[None, :, None, None].expand(1, 4, 3, 3)
    close(pool_slots(attention(scores_of(constant, P), 0.07), constant)[0], torch.tensor([[1.0, 2, 3, 4]] * 5))


# S3: centre


def test_center_by_numbers():
    scores = [scores_of(x, Q) for x in (X, Y)]
    once = updated_center(torch.zeros(5), scores, 0.9)
    close(once, "-.000886 .002458 -.003715 .004276 -.003745")
    close(updated_center(once, scores, 0.9), "-.001683 .004669 -.007058 .008124 -.007116")
    close(slot_oracle.center_slow(torch.zeros(5), scores), once)


def center_of_a_share():
    """The centre after a batch whose scores of X the first process has, and of Y the second."""
    return updated_center(torch.zeros(5), [scores_of((X, Y)[comm.get_rank()], Q)], 0.9)


@pytest.mark.slow
def test_center_of_two_processes_by_numbers(tmp_path):
    """The first process alone would have -.003003 .002402 -.001312 -.000206 .001749."""
    for center in in_processes(tmp_path, center_of_a_share):
        close(center, "-.000886 .002458 -.003715 .004276 -.003745")


def test_a_bad_batch_leaves_the_center():
    scores = scores_of(X, Q)
    bad = scores.clone()
    bad[0, 2, 1, 1] = float("nan")
    assert torch.equal(updated_center(C0.float(), (scores, bad), 0.9), C0.float())


# S8: grouping


def test_grouping_by_numbers():
    student, teacher = ([scores_of(x, prototypes) for x in (X, Y)] for prototypes in (P, Q))
    whole_maps = [grouping_losses(student[i], teacher[1 - i], torch.zeros(5), 0.1, 0.07).mean() for i in (0, 1)]
    close(torch.stack(whole_maps), "3.405916 3.541685")
    centered = [grouping_losses(student[i], teacher[1 - i], C0.float(), 0.1, 0.07).mean() for i in (0, 1)]
    close(torch.stack(centered), "3.407641 3.593802")
    a1, a2 = (resample_overlap(x, overlap) for x, overlap in zip(student, OVERLAPS))
    b1, b2 = (resample_overlap(x, overlap) for x, overlap in zip(teacher, OVERLAPS))
    there = grouping_losses(a1, b2, C0.float(), 0.1, 0.07)
    close(there, "2.474194 3.201815")
    close(there.mean(), 2.838005)  # 2.946011 without mirroring, 2.261874 if probabilities were resampled
    close(grouping_losses(a2, b1, C0.float(), 0.1, 0.07).mean(), 2.525327)
    close(a1[0, :, 0, 0], "-.265170 -.480810 -.118605 .306836 .461255")
    close(b2[0, :, 0, 0], ".023544 .103863 -.223162 .305809 -.312623")


def test_grouping_of_equal_and_of_empty_scores():
    scores = scores_of(X, P)
    close(grouping_losses(scores, scores, torch.zeros(5), 0.1, 0.07).mean(), 0.645167)
    close(grouping_losses(scores, scores, C0.float(), 0.1, 0.07).mean(), 0.648396)
    close(grouping_losses(torch.zeros_like(scores), scores, C0.float(), 0.1, 0.07), [math.log(5)] * 2)


# S9: presence


@pytest.mark.parametrize(
    "x, prototypes, masks",
    [(X, P, "01011 11111"), (Y, P, "01001 11001"), (X, Q, "11100 11001"), (Y, Q, "00011 00011")],
    ids=["student X", "student Y", "teacher X", "teacher Y"],
)
def test_present_slots_by_numbers(x, prototypes, masks):
    present = present_slots(scores_of(x, prototypes), 1)
    assert ["".join(str(int(value)) for value in image) for image in present] == masks.split()


def test_a_tie_goes_to_the_first_prototype():
    assert present_slots(torch.zeros(1, 3, 2, 2), 4).tolist() == [[True, False, False]]


def test_least_pixels_of_the_levels_of_a_view():
    """One of 7 x 7 as in the authors' code, and 4 times more with each finer level."""
    assert [least_pixels(0.02, side * side) for side in (28, 14, 7, 4)] == [16, 4, 1, 1]
    assert least_pixels(0.0, 784) == 1


def test_more_pixels_needed_make_fewer_slots():
    scores = scores_of(X, P)
    for least in (1, 2, 3, 4):
        assert present_slots(scores, least).tolist() == slot_oracle.present_slow(scores, least)


def test_places_of_present_slots():
    present = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)
    places, found = present_first(present, 3)
    assert places[0].tolist() == [1, 3, 4] and places[1, 0] == 0 and len(set(places[1].tolist())) == 3
    assert found.tolist() == [[True] * 3, [True, False, False]]


# S10, S11: contrast, as rows of queries and keys


def rows(n, student, teacher):
    """Queries, keys, and which of them count, for scores and features of ``student`` and ``teacher`` (X 0, Y 1)."""
    x, y = features(n)[student], features(n)[teacher]
    online, target = scores_of(x, P), scores_of(y, Q)
    queries, keys = (unit(pool_slots(attention(s, 0.07), f).flatten(0, 1)) for s, f in ((online, x), (target, y)))
    is_key = present_slots(target, 1).flatten()
    return queries, keys, is_key & present_slots(online, 1).flatten(), is_key


@pytest.mark.parametrize(
    "n, student, teacher, keys, labels, expected",
    [
        (2, 0, 1, 4, [0, 1, 2, 3], 1.082188),
        (2, 1, 0, 6, [1, 3, 4, 5], 0.976906),  # .786358 if only keys of both views counted, 1.045226 without masks
        (3, 0, 1, 7, list(range(7)), 1.173649),
        (3, 1, 0, 10, [1, 3, 4, 5, 6, 7, 9], 1.334818),
        (4, 1, 0, 13, [1, 3, 4, 5, 6, 7, 9, 11], 1.395318),
        (4, 0, 1, 10, list(range(10)), 1.231767),
    ],
)
def test_contrast_by_numbers(n, student, teacher, keys, labels, expected):
    q, k, is_query, is_key = rows(n, student, teacher)
    assert is_key.sum() == keys
    assert (is_key.cumsum(0) - 1)[is_query].tolist() == labels
    losses = slot_contrast(q, k, is_key, 0, 0.2)
    close(0.4 * losses[is_query].mean(), expected)
    assert losses.isfinite().all() and (losses[is_query] >= 0).all()


@pytest.mark.parametrize(
    "student, teacher, expected, counts, labels",
    [
        (1, 0, (1.324734, 1.465903), (4, 4), ([1, 3, 4, 5], [6, 7, 9, 11])),
        (0, 1, (1.406591, 1.115218), (4, 6), ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])),
    ],
)
def test_contrast_of_two_processes_by_numbers(student, teacher, expected, counts, labels):
    """Four images, two in each process: the means of the authors' code, of the own queries of a process."""
    q, k, is_query, is_key = rows(4, student, teacher)
    for rank in (0, 1):
        own = slice(10 * rank, 10 * rank + 10)
        losses = slot_contrast(q[own], k, is_key, 10 * rank, 0.2)[is_query[own]]
        assert len(losses) == counts[rank]
        assert (is_key.cumsum(0) - 1)[own][is_query[own]].tolist() == labels[rank]
        close(0.4 * losses.mean(), expected[rank])


def test_one_query_and_one_key():
    one = unit(torch.ones(1, 4))
    assert slot_contrast(one, one, torch.tensor([True]), 0, 0.2).item() == pytest.approx(0, abs=1e-6)


def test_no_key_at_all_gives_finite_numbers():
    q, k, _, is_key = rows(2, 0, 1)
    q.requires_grad_()
    losses = slot_contrast(q, k, torch.zeros_like(is_key), 0, 0.2)
    losses.sum().backward()
    assert losses.isfinite().all() and q.grad.isfinite().all()


# Monitors


def test_statistics_by_hand():
    """Four pixels: three choose the first of four prototypes, the last one the third; both nearly surely."""
    scores = torch.full((1, 4, 2, 2), -1.0)
    scores[0, 0] = 1
    scores[0, :, 1, 1] = torch.tensor([-1.0, -1, 1, -1])
    found = assignment_statistics(scores, torch.tensor([0.0, 0.03, 0, 0.04]), 0.07)
    assert found["prototypes_in_use"] == 2 and found["largest_prototype"] == 0.75
    assert found["assignment_entropy"] == pytest.approx(0, abs=1e-6)
    assert found["prototype_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-5)
    assert found["center_norm"] == pytest.approx(0.05)


def test_statistics_of_assignments_that_say_nothing():
    found = assignment_statistics(torch.zeros(2, 8, 3, 3), torch.zeros(8), 0.07)
    assert found["assignment_entropy"].item() == pytest.approx(math.log(8), abs=1e-5)
    assert found["prototypes_in_use"] == 1 and found["largest_prototype"] == 1


# The slow oracle


def test_everything_and_its_gradients_against_loops():
    """Other sizes than in the cases: 2 images, 3 channels, 6 prototypes, 2 x 4 cells."""
    overlap = ViewOverlap(torch.tensor([[0.1, 0.3, 0.8, 0.9], [0.4, 0, 1, 0.35]]), torch.tensor([True, False]))
    results = []
    for slow in (False, True):
        shapes = (2, 3, 2, 4), (6, 3), (2, 3, 2, 4), (6, 3), (6,)
        x, prototypes, y, others, shift = (normal(*s, seed=i, dtype=torch.float64) for i, s in enumerate(shapes))
        x.requires_grad_(), prototypes.requires_grad_()
        center = 0.1 * shift
        if slow:
            online, target = slot_oracle.scores_slow(x, prototypes), slot_oracle.scores_slow(y, others)
            pair = [slot_oracle.resampled_slow(s, overlap.boxes, overlap.flipped) for s in (online, target)]
            group = slot_oracle.grouping_slow(*pair, center)
            contrast, _ = slot_oracle.contrast_slow(online, target, x, y, lambda queries: queries)
        else:
            online, target = scores_of(x, prototypes), scores_of(y, others)
            pair = [resample_overlap(s, overlap) for s in (online, target)]
            group = grouping_losses(*pair, center.float(), 0.1, 0.07).mean()
            places, is_key = present_first(present_slots(target, 1), 6)
            shares = [attention(s, 0.07).gather(1, places[:, :, None].expand(-1, -1, 8)) for s in (online, target)]
            q, k = (unit(pool_slots(s, f).flatten(0, 1)) for s, f in zip(shares, (x, y)))
            is_query = (is_key & present_slots(online, 1).gather(1, places)).flatten()
            contrast = 0.4 * slot_contrast(q, k.detach(), is_key.flatten(), 0, 0.2)[is_query].mean()
        (group + contrast).backward()
        results.append([online, *pair, group, contrast, x.grad, prototypes.grad])
    for fast, slow in zip(*results):
        close(fast, slow.float(), atol=2e-5)
