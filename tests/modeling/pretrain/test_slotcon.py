"""SlotCon as a method: the numeric cases through the module, and its networks."""

import math

import pytest
import slot_oracle
import torch
import torch.nn.functional as F  # noqa: N812
from detectron2.utils import comm
from distributed_helpers import in_processes
from learner_helpers import images, small_learner
from slot_helpers import C0, OVERLAPS, Alike, P, Q, close, features, head, method, view, views, whole
from torch import nn

from pixpro_d2.modeling.pretrain.methods import SlotConMethod
from pixpro_d2.modeling.pretrain.momentum import momentum_at, update_target
from pixpro_d2.modeling.pretrain.slot_heads import MaskedBatchNorm, SlotPredictor, SlotProjector
from pixpro_d2.modeling.pretrain.slots import present_slots
from pixpro_d2.modeling.pretrain.view_overlap import ViewOverlap


def directions(made, pair):
    """Contrast of student X with teacher Y, and of student Y with teacher X."""
    first, second = (made.group(one) for one in pair)
    return made.contrast(first, second).item(), made.contrast(second, first).item()


# S10, S11 through the module


@pytest.mark.parametrize("n, expected", [(2, (1.082188, 0.976906)), (3, (1.173649, 1.334818))])
def test_contrast_by_numbers(n, expected):
    assert directions(method(), views(n)) == pytest.approx(expected, abs=1e-5)


def test_contrast_after_the_head_by_numbers():
    """The predictor's norms see the slots that count only: 1.894648 and 1.023585 if they saw all."""
    assert directions(method(head()), views()) == pytest.approx((1.538134, 1.022148), abs=1e-5)


def test_the_center_changes_nothing_in_the_contrast():
    """1.371224 if it were subtracted from what decides about presence, .883920 if from the attention."""
    assert directions(method(center=10 * C0), views())[1] == pytest.approx(0.976906, abs=1e-5)


def test_the_mean_is_over_the_slots_of_all_images():
    """Four images: 1.395318 and 1.231767; the mean of two halves of unequal counts is 1.260905 (S11)."""
    assert directions(method(), views(4))[::-1] == pytest.approx((1.395318, 1.231767), abs=1e-5)


def contrasts_of_a_share(norm, queries=4):
    """Contrasts of S11's four images, of which each process has its share: losses, gradients, statistics of the norms.

    Of images from number ``queries`` on, the student's pixels go to prototype 0 and the teacher's to prototype 1.
    """
    size = comm.get_world_size()
    own = slice(comm.get_rank() * 4 // size, (comm.get_rank() + 1) * 4 // size)
    x, y = (one.clone() for one in features(4))
    online, target = y.clone(), x.clone()
    online[queries:], target[queries:] = P[0].view(4, 1, 1), Q[1].view(4, 1, 1)
    made = method(head(norm) if norm else Alike())
    pair = [view(one[own], other[own], whole(4 // size)) for one, other in ((online, y), (x, target))]
    second, first = (made.group(one) for one in pair)
    losses = [made.contrast(second, first), made.contrast(first, second)]
    losses[0].backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    return torch.stack(losses).detach(), gradients, dict(made.named_buffers())


SHARED = [("", 4), ("SyncBN", 4), ("SyncBN", 2)]  # in the last one the second process has no query


def all_shared_contrasts():
    return [contrasts_of_a_share(*options) for options in SHARED]


@pytest.mark.slow
def test_two_processes_have_the_contrast_of_one(tmp_path):
    """By numbers without a head (S11); the means of the processes' own queries give 1.260905 instead of 1.231767."""
    pair = in_processes(tmp_path, all_shared_contrasts)
    close(sum(half[0][0] for half in pair) / 2, "1.395318 1.231767")
    for alone, *halves in zip(all_shared_contrasts(), *pair):
        losses, gradients, _ = alone
        assert losses[0] > 0
        close(sum(half[0] for half in halves) / 2, losses)
        for name, expected in gradients.items():
            mean = sum(half[1][name] for half in halves) / 2
            torch.testing.assert_close(mean, expected, atol=5e-5, rtol=1e-4, msg=name)
        for half in halves:
            torch.testing.assert_close(half[2], alone[2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("predictor", [Alike, head])
def test_no_slot_in_both_views_gives_no_contrast_but_a_graph(predictor):
    """All of the student's pixels go to prototype 0 and all of the teacher's to prototype 1."""
    made = method(predictor())
    with torch.no_grad():
        made.prototypes.weight.copy_(torch.eye(5, 4))
        made.target_prototypes.weight.copy_(torch.eye(5, 4))
    online = torch.eye(4)[0].view(1, 4, 1, 1).expand(2, 4, 3, 3).clone().requires_grad_()
    target = torch.eye(4)[1].view(1, 4, 1, 1).expand(2, 4, 3, 3)
    pair = [view(online, target, whole(2)) for _ in range(2)]
    loss = made.contrast(*(made.group(one) for one in pair))
    assert loss.item() == 0
    loss.backward()
    assert not online.grad.any() and made.prototypes.weight.grad is not None


def test_a_single_slot_passes_the_head():
    """Batch norm refuses a single row in training, and the run would end."""
    made = method(head())
    with torch.no_grad():
        made.prototypes.weight.copy_(torch.eye(5, 4))
        made.target_prototypes.weight.copy_(torch.eye(5, 4))
    same = torch.eye(4)[2].view(1, 4, 1, 1).expand(1, 4, 3, 3).clone().requires_grad_()
    pair = [view(same, same.detach(), whole(1)) for _ in range(2)]
    loss = made.contrast(*(made.group(one) for one in pair))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and same.grad.isfinite().all()


# S12: the whole forward


class Branches(nn.Module):
    """A projector 4-4 without bias in each branch, and the method."""

    def __init__(self, predictor):
        super().__init__()
        self.method = method(predictor, C0)
        self.online, self.target = (nn.Conv2d(4, 4, 1, bias=False) for _ in range(2))
        a = torch.arange(16.0).view(4, 4, 1, 1)
        with torch.no_grad():
            self.online.weight.copy_((0.5 * a + 0.3).sin())
            self.target.weight.copy_((0.4 * a).cos())

    def move(self, k):
        momentum = momentum_at(k, 320, 0.99)
        for online, target in [(self.online, self.target), *self.method.momentum_pairs()]:
            update_target(list(online.parameters()), list(target.parameters()), momentum)

    def views(self):
        pair = zip(features(), OVERLAPS)
        return [view(self.online(x.float()), self.target(x.float()).detach(), overlap) for x, overlap in pair]


@pytest.mark.parametrize(
    "predictor, contrasts, loss, weights, prototypes",
    [
        (
            Alike,
            (1.728774, 0.895293),
            4.973562,
            (1.253031, -1.218557, -0.471779),
            (-0.339678, 0.121148, -0.463704),
        ),
        (head, (0.835661, 0.560536), 4.359626, (1.485911, -1.266812, -0.084865), (-0.341568, 0.107857, -0.453163)),
    ],
)
def test_whole_forward_by_numbers(predictor, contrasts, loss, weights, prototypes):
    """Every trap has another number: the target moved after its forward 4.983437, the student's temperature in its own
    attention 4.982593, the new centre in the loss 4.965040, aligned False 5.597426, no resampling 8.416185, no 2 tau
    6.941612; presence on the overlap gives the contrasts 2.186327 and .712615.
    """
    branches = Branches(predictor())
    branches.move(0)
    made = branches.method
    pair = branches.views()
    first, second = (made.group(one) for one in pair)
    groups = made.grouping("c5", first, second).item(), made.grouping("c5", second, first).item()
    assert groups == pytest.approx((3.582359, 3.740696), abs=1e-5)
    assert (made.contrast(first, second).item(), made.contrast(second, first).item()) == pytest.approx(
        contrasts, abs=1e-5
    )
    total = made("c5", tuple(pair), ())
    assert total.item() == pytest.approx(loss, abs=1e-5) and total.shape == () and total.dtype == torch.float32
    total.backward()
    place = [(0, 0), (0, 1), (2, 3)]
    assert [branches.online.weight.grad[:, :, 0, 0][i].item() for i in place] == pytest.approx(weights, abs=1e-5)
    assert [made.prototypes.weight.grad[i].item() for i in place] == pytest.approx(prototypes, abs=1e-5)
    assert branches.target.weight.grad is None and made.target_prototypes.weight.grad is None


def test_state_after_the_forward_by_numbers():
    """From maps of the overlap the centre would be .015084 .014123 -.012543 -.013119 -.014936."""
    branches = Branches(Alike())
    branches.move(0)
    branches.method("c5", tuple(branches.views()), ())
    expected = torch.tensor([0.015802, 0.009246, -0.004404, -0.023099, -0.005341])
    torch.testing.assert_close(branches.method.centers["c5"].mean, expected, atol=1e-6, rtol=0)
    assert branches.target.weight[0, :2].flatten().tolist() == pytest.approx([0.992955, 0.919024], abs=1e-6)
    moved = branches.method.target_prototypes.weight[0, :2].tolist()
    assert moved == pytest.approx([0.975060, 0.458799], abs=1e-6)


def test_forward_in_the_middle_of_a_run_by_numbers():
    branches = Branches(Alike())
    branches.move(160)
    assert momentum_at(160, 320, 0.99) == pytest.approx(0.995)
    assert branches.method("c5", tuple(branches.views()), ()).item() == pytest.approx(4.978451, abs=1e-5)


def test_weights_of_grouping_and_contrast():
    """0.8 (3.582359 + 3.740696) + 0.2 (1.728774 + .895293), the terms of S12; 3.563865 with the weights exchanged."""
    branches = Branches(Alike())
    branches.move(0)
    branches.method.group_weight = 0.8
    assert branches.method("c5", tuple(branches.views()), ()).item() == pytest.approx(6.383257, abs=1e-5)


def test_masks_of_the_forward():
    branches = Branches(Alike())
    branches.move(0)
    grouped = [branches.method.group(one) for one in branches.views()]
    masks = [
        ["".join(str(int(value)) for value in image) for image in present_slots(scores, 1)]
        for scores in (grouped[0].online, grouped[1].online, grouped[0].target, grouped[1].target)
    ]
    assert masks == [["11011", "11111"], ["01001", "01001"], ["11111", "11111"], ["00111", "00111"]]


def test_the_method_against_loops():
    made = method(head(), C0)
    x, y = (one.float().double() for one in features())
    losses, reference = [], head()

    def predict(rows):
        """The same layers with PyTorch's batch norm, in float64."""
        hidden = rows
        for layer, norm in ((reference.first, True), (reference.second, True), (reference.last, False)):
            hidden = F.linear(hidden, layer.weight.double(), layer.bias.double())
            hidden = F.gelu(F.batch_norm(hidden, None, None, training=True)) if norm else hidden
        return hidden

    online = [slot_oracle.scores_slow(one, P) for one in (x, y)]
    target = [slot_oracle.scores_slow(one, Q) for one in (x, y)]
    maps = [
        [slot_oracle.resampled_slow(s, o.boxes, o.flipped) for s, o in zip(scores, OVERLAPS)]
        for scores in (online, target)
    ]
    for i in (0, 1):
        losses.append(slot_oracle.grouping_slow(maps[0][i], maps[1][1 - i], C0))
        losses.append(slot_oracle.contrast_slow(online[i], target[1 - i], (x, y)[i], (x, y)[1 - i], predict)[0])
    assert made("c5", views(2, OVERLAPS), ()).item() == pytest.approx(0.5 * sum(losses).item(), abs=1e-5)


def test_images_without_an_overlap_are_left_out():
    """The third image's crops only touch. The other two have the mean of a batch without the third."""
    apart = ViewOverlap(torch.tensor([[1.0, 0, 1, 1]]), torch.tensor([False]))
    overlaps = [ViewOverlap(torch.cat([o.boxes, apart.boxes]), torch.cat([o.flipped, apart.flipped])) for o in OVERLAPS]
    three, two = method(center=C0), method(center=C0)
    with_apart = [three.group(one) for one in views(3, overlaps)]
    without = [two.group(one) for one in views(2, OVERLAPS)]
    assert three.grouping("c5", *with_apart).item() == pytest.approx(two.grouping("c5", *without).item(), abs=1e-6)


def test_nothing_in_common_anywhere_gives_no_grouping_but_a_graph():
    apart = ViewOverlap(torch.tensor([[1.0, 0, 1, 1]] * 2), torch.zeros(2, dtype=torch.bool))
    made = method()
    loss = made.grouping("c5", *(made.group(one) for one in views(2, (apart, apart))))
    assert loss.item() == 0
    loss.backward()
    assert not made.prototypes.weight.grad.any()


def test_the_center_rests_in_eval_mode():
    made = method(center=C0).eval()
    made("c5", views(), ())
    torch.testing.assert_close(made.centers["c5"].mean, C0.float())


def test_fewer_places_than_prototypes_against_loops():
    """A slot needs 3 of the 9 pixels, so a view has room for 3 of the 5."""
    made = method(min_share=0.3)
    x, y = features()
    pair = views()
    grouped = [made.group(one) for one in pair]
    online, target = slot_oracle.scores_slow(x, P), slot_oracle.scores_slow(y, Q)
    expected, labels = slot_oracle.contrast_slow(online, target, x, y, lambda rows: rows, least=3)
    assert labels and made.contrast(*grouped).item() == pytest.approx(expected.item(), abs=1e-5)


def test_monitors_against_loops():
    """Four images: student X and teacher Y share 10 slots, student Y and teacher X 8 (S11)."""

    def entropy(shares):
        return -sum(float(share) * math.log(share) for share in shares)

    center = 10 * C0
    found = method(center=center).monitors("c5", views(4))
    assert found["shared_slots"] == 10 / 4
    maps = torch.cat([slot_oracle.scores_slow(one, Q) for one in features(4)])
    pixels = maps.permute(0, 2, 3, 1).reshape(72, 5).tolist()
    winners = [pixel.index(max(pixel)) for pixel in pixels]
    shares = [slot_oracle.softmax_slow([(s - c) / 0.07 for s, c in zip(pixel, center)]) for pixel in pixels]
    assert found["prototypes_in_use"] == len(set(winners))
    assert found["largest_prototype"].item() == pytest.approx(max(map(winners.count, range(5))) / 72)
    assert found["assignment_entropy"].item() == pytest.approx(sum(map(entropy, shares)) / 72, abs=1e-5)
    assert found["prototype_entropy"].item() == pytest.approx(entropy(sum(x) / 72 for x in zip(*shares)), abs=1e-5)
    assert found["center_norm"].item() == pytest.approx(math.dist(center, [0] * 5), abs=1e-6)


# Networks


@pytest.mark.parametrize("momentum", [0.1, None])  # None: the mean of all batches, as the read-outs take it
def test_masked_norm_is_a_batch_norm_of_the_rows_that_count(momentum):
    torch.manual_seed(0)
    rows, counted = torch.randn(12, 3), torch.rand(12) > 0.4
    masked, plain = MaskedBatchNorm(3, synced=False), nn.BatchNorm1d(3)
    masked.momentum = plain.momentum = momentum
    for _ in range(3):
        masked(rows, torch.zeros(12, dtype=torch.bool))  # no row counts
        rows = 2 * rows + 1
        ours, theirs = masked(rows, counted)[counted], plain(rows[counted])
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(masked.state_dict(), plain.state_dict())
    torch.testing.assert_close(masked.eval()(rows, counted), plain.eval()(rows))


def test_masked_norm_without_a_row_keeps_its_statistics():
    norm = MaskedBatchNorm(3, synced=False)
    result = norm(torch.randn(4, 3), torch.zeros(4, dtype=torch.bool))
    assert result.isfinite().all() and not norm.running_mean.any() and (norm.running_var == 1).all()


def test_networks_of_the_paper():
    """R50: 26 239 232 weights in the projector, 18 899 200 in the predictor; std 0.02, biases 0."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in net.parameters()) for net in (SlotProjector(2048), SlotPredictor(256, 4096))]
    assert counts == [26_239_232, 18_899_200]
    torch.manual_seed(0)
    for net in (SlotProjector(64, 64, 32), SlotPredictor(64, 64)):
        for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1) and not layer.bias.any()


def test_projector_by_plain_functions():
    """Convolution, norm and GELU by erf twice, then a convolution."""
    torch.manual_seed(0)
    projector, x = SlotProjector(5, 7, 3), torch.randn(2, 5, 3, 4)
    for parameter in projector.parameters():
        nn.init.normal_(parameter)
    rows = x.double().permute(0, 2, 3, 1).flatten(0, 2)
    for conv, norm in ((projector[0], projector[1]), (projector[3], projector[4]), (projector[6], None)):
        rows = F.linear(rows, conv.weight.double().flatten(1), conv.bias.double())
        if norm is not None:
            rows = F.batch_norm(rows, None, None, norm.weight.double(), norm.bias.double(), training=True)
            rows = 0.5 * rows * (1 + torch.erf(rows / 2**0.5))
    close(projector(x).permute(0, 2, 3, 1), rows)


def test_segments_are_the_winners_of_the_target_branch():
    x, _ = features()
    expected = slot_oracle.scores_slow(x, Q).argmax(dim=1)
    assert torch.equal(method().segments(views()[0]), expected)


def test_learner_trains_it_too():
    """Any network and loop: the method is passed as an object; its parts go through PixelLearner's optimiser."""
    made = SlotConMethod(["body"], 8, 6, SlotPredictor(8, 16))
    learner = small_learner(method=made, min_scale=0.5)
    loss, _ = learner(images())
    loss.backward()
    assert loss.item() > 0 and made.prototypes.weight.grad.abs().sum() > 0 and made.centers["body"].mean.any()
    assert learner.net.body[0].weight.grad.abs().sum() > 0
