"""Truth of rendered video by hand, and the counts of what a correspondence claims of it."""

import numpy as np
import pytest
import torch

from pixpro_d2.extras.scenes.scene import CLASSES, Scene, SceneObject, Texture
from pixpro_d2.extras.scenes.video_scene import MovingScene, render_video
from pixpro_d2.extras.video.flow_quality import Counts, Truth, ViewPairs, count_pairs, draw_views, find_truth
from pixpro_d2.modeling.pretrain.flow_correspondence import FlowCorrespondence

SIZE = (16, 24)
FULL = [0.0, 0.0, 24.0, 16.0]


def _scene(frames, background):
    """A square over columns 4-7 of rows 6-9, at rest, before a background that moves by ``background`` px a frame."""
    texture = Texture("noise", ((1, 1, 1), (0, 0, 0)), 1.0, 0.0, 0)
    obj = SceneObject(CLASSES.index("square"), (0, 0), 1.0, 0.0, texture)
    places = [background * np.arange(frames), np.full(frames, 6 + 8j)]
    factors = np.ones((frames, 2), dtype=complex)
    factors[:, 1] = 4 / 2**0.5
    return MovingScene(Scene(*SIZE, (obj,), 0, clutter=False), np.stack(places, axis=1).astype(complex), factors)


def _views(*boxes, starts=(0,), steps=2):
    return ViewPairs(list(starts), steps, torch.tensor(boxes))


def test_truth_of_two_layers():
    """Bins of 2 x 2 px, centred between four pixels; the background moves by one bin in two steps of 1 px."""
    scene = _scene(3, 1.0)
    truths = find_truth(scene, _views([FULL, FULL]), (8, 12), pos_ratio=0.7)
    for truth, shift in zip(truths, (1, -1)):
        assert truth.pairs.shape == (1, 96, 96) and not truth.undecided.any()
        visible, clear = truth.visible.view(8, 12), truth.clear.view(8, 12)
        pairs = truth.pairs.view(8, 12, 8, 12)
        for row in range(8):
            for column in range(12):
                # The square covers rows 3 and 4 and columns 2 and 3 of the bins, and hides what ends there.
                square = row in (3, 4) and column in (2, 3)
                target = column if square else column + shift
                hidden = row in (3, 4) and target in (2, 3) and not square
                shown = 0 <= target < 12 and not hidden
                assert visible[row, column] == shown
                # Bins are 2 px wide, so that others are farther than 0.7 of the diagonal of 2.83 px, 1.98 px.
                assert pairs[row, column].nonzero().tolist() == ([[row, target]] if shown else [])
                # In frame 1 the background is at 1 px from where it was, on the centre of a pixel column between
                # two bins: the four pixels around it are those of both.
                if not square:
                    passed = [2 * column + 0.5, 2 * column + 0.5 + shift, 2 * column + 0.5 + 2 * shift]
                    columns = {x for at in passed for x in (np.floor(at), np.floor(at) + 1)}
                    touches = row in (3, 4) and columns & {4, 5, 6, 7}
                    assert clear[row, column] == (shown and not touches)
                else:
                    assert clear[row, column]


def test_truth_of_a_mirrored_crop():
    # A query of one bin at (2, 8), moved by 5 px to (7, 8), before a key of 2 x 2 bins of 4 px, mirrored.
    views = _views([[0.0, 6.0, 4.0, 10.0], [11.0, 8.0, 3.0, 16.0]], steps=1)
    scene = MovingScene(Scene(*SIZE, (), 0, clutter=False), np.array([[0], [5 + 2j]]), np.ones((2, 1), dtype=complex))
    there, back = find_truth(scene, views, (1, 1), pos_ratio=0.7)
    assert there.pairs.tolist() == [[[True]]]  # from (7, 10) to (7, 12): 2 px of 0.7 * 11.3
    assert back.pairs.tolist() == [[[True]]]  # (7, 12) - (5, 2) = (2, 10)
    there, _ = find_truth(scene, views, (2, 2), pos_ratio=0.7)
    # Queries at (1, 7), (3, 7), (1, 9), (3, 9) move to (6, 9), (8, 9), (6, 11), (8, 11); keys are at (9, 10), (5, 10),
    # (9, 14), (5, 14); pairs are closer than 0.7 * 4 * sqrt(2) = 3.96 px.
    moved, keys = [(6, 9), (8, 9), (6, 11), (8, 11)], [(9, 10), (5, 10), (9, 14), (5, 14)]
    expected = [[np.hypot(x - u, y - v) < 3.96 for u, v in keys] for x, y in moved]
    assert there.pairs[0].tolist() == expected and 0 < np.sum(expected) < 16


def test_pairs_on_the_threshold_are_undecided():
    # Bins of 4 x 4 px, at rest, of which the neighbours are 4 px away: exactly sqrt(1 / 2) of the diagonal.
    truth, _ = find_truth(_scene(2, 0.0), _views([FULL, FULL], steps=1), (4, 6), pos_ratio=0.5**0.5)
    assert int(truth.pairs.sum()) == 24 and int(truth.undecided.sum()) == 2 * (4 * 5 + 3 * 6)


class _Claims:
    """Correspondence that claims what it is told to."""

    def __init__(self, there, back):
        self.masks = torch.tensor(there), torch.tensor(back)
        self.batches = []

    def geometry(self, batch, device):
        self.batches.append(batch)
        return slice(int(batch["boxes"][0, 0, 0]), int(batch["boxes"][-1, 0, 0]) + 1)  # the views' numbers

    def monitors(self, part):
        return {"valid_pixels": torch.tensor(0.25 if part.start else 1.0)}

    def __call__(self, part, grids):
        return tuple(mask[part] for mask in self.masks)


def test_counts():
    t, f = True, False
    truth = Truth(
        pairs=torch.tensor([[[t, f], [f, f]]]),
        undecided=torch.tensor([[[f, f], [f, t]]]),
        visible=torch.tensor([[t, f]]),
        clear=torch.tensor([[t, f]]),
    )
    nothing = Truth(*(torch.zeros_like(part) for part in (truth.pairs, truth.pairs, truth.visible, truth.clear)))
    flow = np.zeros((2, 3, 2, 4, 6), np.float32)
    views = _views([FULL, FULL], starts=(1,))
    # All four: one is undecided; of the others one is right, one wrong though visible and clear, one hidden.
    claims = _Claims([[[t, t], [t, t]]], [[[f, f], [f, f]]])
    counts, valid = count_pairs(claims, (truth, nothing), views, (1, 2), flow, SIZE)
    assert counts == Counts(claimed=3, true=1, right=1, hidden=1, clear=2, right_clear=1) and valid == 1.0
    claims = _Claims([[[f, f], [f, f]]], [[[f, f], [t, f]]])
    counts, _ = count_pairs(claims, (truth, nothing), views, (1, 2), flow, SIZE)
    assert counts == Counts(claimed=1, true=1, hidden=1)
    assert counts + counts + Counts(right=3) == Counts(claimed=2, true=2, right=3, hidden=2)


def test_batches_are_those_of_the_loader():
    # Ten pairs of views in two batches; the flow tells its step.
    boxes = [[[float(i), 0, 24, 16], FULL] for i in range(10)]
    starts = [i % 3 for i in range(10)]
    steps = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None, None], (4, 2, 4, 6))
    flow = (steps, steps + 10)
    claims = _Claims(*(np.ones((10, 1, 1), bool).tolist() for _ in range(2)))
    no, yes = torch.zeros(10, 1, 1, dtype=torch.bool), torch.ones(10, 1, dtype=torch.bool)
    truth = Truth(no, no, yes, yes)
    counts, valid = count_pairs(claims, (truth, truth), _views(*boxes, starts=starts), (1, 1), flow, SIZE)
    assert counts.claimed == 20 and counts.clear == 20 and counts.right == 0
    assert valid == pytest.approx((8 * 1.0 + 2 * 0.25) / 10)
    first, second = claims.batches
    assert len(first["boxes"]) == 8 and second["boxes"].tolist() == boxes[8:]
    assert first["image_sizes"].tolist() == [[16, 24]] * 8 and second["flow_sizes"].tolist() == [[4, 6]] * 2
    for batch, part in ((first, starts[:8]), (second, starts[8:])):
        assert batch["flow_there"][..., 0, 0, 0].tolist() == [[s, s + 1] for s in part]
        assert batch["flow_back"][..., 0, 0, 0].tolist() == [[s + 11, s + 10] for s in part]


@pytest.mark.parametrize("consistency", ["none", "pixel", "legacy"])
def test_exact_flow_is_right_off_outlines(consistency):
    scene = _scene(6, 1.3 + 0.6j)
    clip = render_video(scene)
    views = draw_views(np.random.default_rng(0), 20, 6, 4, SIZE, 0.3)
    truths = find_truth(scene, views, (5, 5), 0.7)
    correspondence = FlowCorrespondence(0.7, consistency=consistency)
    counts, _ = count_pairs(correspondence, truths, views, (5, 5), (clip.forward, clip.backward), SIZE)
    assert counts.right_clear == counts.clear > 300
    assert counts.right < counts.claimed  # at the outline
    reversed_in_time = (clip.backward, clip.forward)
    wrong, _ = count_pairs(correspondence, truths, views, (5, 5), reversed_in_time, SIZE)
    assert wrong.right_clear < 0.9 * wrong.clear


def test_views_are_drawn_from_the_whole_video():
    views = draw_views(np.random.default_rng(0), 100, 8, 6, SIZE, 0.2)
    assert set(views.starts) == {0, 1, 2} and views.steps == 5
    assert views.boxes.shape == (100, 2, 4) and views.boxes.dtype == torch.float32
    assert (views.boxes[..., 0] > views.boxes[..., 2]).any() and (views.boxes[..., 0] < views.boxes[..., 2]).any()
    assert not torch.equal(views.boxes[:, 0], views.boxes[:, 1])
