"""DenseCL: loss by hand and by loops, the queue, and the config."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from method_helpers import train_model

import configs
from pixpro_d2.modeling.pretrain.methods import DenseCLMethod, LevelView
from pixpro_d2.modeling.pretrain.methods.densecl import KeyQueue, densecl_loss
from pixpro_d2.modeling.pretrain.monitors import nearest_pixels
from pixpro_d2.utils.errors import UsageError

E1, E2 = [1.0, 0.0], [0.0, 1.0]


def grid(*pixels):
    """Four vectors (C) as the pixels, row by row, of a (1, C, 2, 2) map."""
    return torch.tensor(pixels).T.reshape(1, -1, 2, 2)


def one_hot(*index):
    """(1, 4, 2, 2) features, one-hot in the channels; scaled, because only their direction may count."""
    return 3 * grid(*torch.eye(4)[list(index)].tolist())


def no_pairs(n):
    """No pairs by geometry, which DenseCL does not ask for; (n, 4, 4)."""
    return torch.zeros(n, 4, 4, dtype=torch.bool)


def method(queue, temperature=0.5, weight=1.0):
    made = DenseCLMethod(["res5"], len(queue[0]), len(queue), temperature, weight)
    made.queues["res5"].vectors.copy_(torch.tensor(queue))
    return made


def hand_views():
    """Two views of one image: query pixels 0..3 of the first match pixels 1, 0, 2 and 0 of the second's keys."""
    first = LevelView(
        queries=grid(E1, E2, [0.6, 0.8], [-1.0, 0.0]),
        keys=grid(E1, E1, E1, E1),
        features=one_hot(1, 0, 2, 0),
        target_features=one_hot(0, 0, 0, 1),
    )
    second = LevelView(
        queries=grid(E1, E1, E1, E2),
        keys=grid(E2, E1, [0.8, 0.6], [0.0, -1.0]),
        features=one_hot(0, 0, 0, 1),
        target_features=one_hot(0, 1, 2, 3),
    )
    return first, second


def test_direction_by_hand():
    """tau 0.5, queue (1, 0) and (0, 1).

    query        match       cosine / tau   queue's cosines / tau   loss
    (1, 0)       k1 (1, 0)   2              2, 0                    ln(e^2 + e^2 + 1) - 2
    (0, 1)       k0 (0, 1)   2              0, 2                    the same
    (.6, .8)     k2 (.8, .6) 1.92           1.2, 1.6                ln(e^1.92 + e^1.2 + e^1.6) - 1.92
    (-1, 0)      k0 (0, 1)   0              -2, 0                   ln(1 + e^-2 + 1) - 0

    ln(2 + e^-2) = 0.758624 three times; e^1.92 + e^1.2 + e^1.6 = 6.820958 + 3.320117 + 4.953032 = 15.094107,
    whose logarithm 2.714304 less 1.92 is 0.794304. The mean is (3 * 0.758624 + 0.794304) / 4 = 0.767544, and a
    direction counts half.
    """
    first, second = hand_views()
    nothing = no_pairs(1)
    loss = method([E1, E2]).direction("res5", first, second, nothing)
    assert loss.shape == () and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.767544 / 2, abs=1e-5)
    # The matches come from the features, so pairs by geometry change nothing.
    again = method([E1, E2]).direction("res5", first, second, ~nothing)
    assert again.item() == loss.item()


def test_both_directions_and_the_queue_by_hand():
    """Back, queries (1,0) x 3 match k0 = (1, 0), and (0, 1) matches k3 = (1, 0): cosines / tau 2, 2, 2, 0.

    The queue gives 2 and 0 to each, so the loss is ln(2e^2 + 1) - 2 = 0.758624 three times, and
    ln(1 + e^2 + 1) = ln(9.389056) = 2.239545 for the last; mean (2.275872 + 2.239545) / 4 = 1.128854.
    Half the sum with the way there (0.767544) is 0.948199, times lambda 0.5 = 0.474100.

    Pooled keys: (1, 0) of the first view; (0 + 1 + .8 + 0, 1 + 0 + .6 - 1) / 4 = (.45, .15) of the second,
    of length sqrt(.225) = .474342: (.948683, .316228). They replace both rows of the queue.
    """
    first, second = hand_views()
    made = method([E1, E2], weight=0.5)
    loss = made("res5", (first, second), (no_pairs(1),) * 2)
    assert loss.item() == pytest.approx(0.474100, abs=1e-5)
    expected = torch.tensor([[1.0, 0.0], [0.948683, 0.316228]])
    torch.testing.assert_close(made.queues["res5"].vectors, expected, atol=1e-5, rtol=0)


def densecl_slow(q, k, features_q, features_k, queue, tau):
    """One direction by loops, in float64: best match by cosine, then -log of its share (paper Eq. 2 with lambda 1)."""
    losses = []
    for n in range(q.shape[0]):
        pixels_q = [(r, c) for r in range(q.shape[2]) for c in range(q.shape[3])]
        pixels_k = [(r, c) for r in range(k.shape[2]) for c in range(k.shape[3])]
        for rq, cq in pixels_q:
            best, match = -2.0, None
            a = features_q[n, :, rq, cq].double()
            for rk, ck in pixels_k:
                b = features_k[n, :, rk, ck].double()
                cosine = ((a * b).sum() / (a.norm() * b.norm())).item()
                if cosine > best:
                    best, match = cosine, k[n, :, rk, ck].double()
            query = q[n, :, rq, cq].double()
            positive = torch.exp((query * match).sum() / tau)
            everything = positive
            for vector in queue:
                everything = everything + torch.exp((query * vector.double()).sum() / tau)
            losses.append(-torch.log(positive / everything))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("tau", [0.2, 0.01], ids=["tau-.2", "tau-.01"])
def test_loss_and_gradient_against_loops(tau):
    generator = torch.Generator().manual_seed(4)
    # Other grids in the two views: the queries' pixels and the keys' must not be mixed up.
    q = F.normalize(torch.randn(2, 6, 3, 2, generator=generator), dim=1)
    k = F.normalize(torch.randn(2, 6, 2, 4, generator=generator), dim=1)
    features_q = torch.randn(2, 5, 3, 2, generator=generator)
    features_k = torch.randn(2, 5, 2, 4, generator=generator)
    queue = F.normalize(torch.randn(7, 6, generator=generator), dim=1)
    fast_q, slow_q = q.clone().requires_grad_(), q.double().requires_grad_()
    fast = densecl_loss(fast_q, k, nearest_pixels(features_q, features_k), queue, tau)
    slow = densecl_slow(slow_q, k, features_q, features_k, queue, tau)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    fast.backward()
    slow.backward()
    torch.testing.assert_close(fast_q.grad.double(), slow_q.grad, atol=1e-5, rtol=1e-4)


def test_loss_is_the_logarithm_of_the_choices_when_nothing_is_learned():
    """All vectors equal: 1 positive among 1 + K equal terms, ln(1 + K)."""
    same = F.normalize(torch.ones(1, 3, 2, 2), dim=1)
    queue = F.normalize(torch.ones(9, 3), dim=1)
    loss = densecl_loss(same, same, torch.zeros(1, 4, dtype=torch.int64), queue, 0.2)
    assert loss.item() == pytest.approx(math.log(10), abs=1e-5)


def rows(queue):
    return queue.vectors.flatten().tolist(), queue.position.item()


def test_the_queue_replaces_its_oldest_keys_first():
    """Five places and three keys at a time: not a multiple, so that a push goes round the end."""
    queue = KeyQueue(5, 1)
    queue.vectors.copy_(torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0], [-5.0]]))
    for start, expected, position in [
        (1, [1, 2, 3, -4, -5], 3),
        (4, [6, 2, 3, 4, 5], 1),
        (7, [6, 7, 8, 9, 5], 4),
    ]:
        queue.push(torch.arange(start, start + 3.0)[:, None])
        assert rows(queue) == (expected, position)


def test_the_queue_keeps_the_newest_of_more_keys_than_places():
    queue = KeyQueue(3, 1)
    queue.push(torch.tensor([[1.0]]))
    queue.push(torch.arange(2.0, 9.0)[:, None])
    # Row 1 is the oldest: 6, 7, 8 go to rows 1, 2 and 0.
    assert rows(queue) == ([8, 6, 7], 1)
    queue.push(torch.tensor([[9.0]]))
    assert rows(queue) == ([8, 9, 7], 2)


def test_the_queue_leaves_out_keys_of_a_bad_batch():
    queue = KeyQueue(3, 2)
    queue.vectors.copy_(torch.tensor([[-1.0, 0], [-2, 0], [-3, 0]]))
    nan = float("nan")
    queue.push(torch.tensor([[1.0, nan], [2, 0]]))
    assert queue.vectors.tolist() == [[-1, 0], [2, 0], [-3, 0]] and queue.position == 2


def test_queues_start_alike_in_every_process():
    torch.manual_seed(1)
    first = KeyQueue(6, 4).vectors
    torch.manual_seed(2)
    assert torch.equal(first, KeyQueue(6, 4).vectors)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6))
    assert not torch.allclose(first[0], first[1])


def random_views(n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(n, 4, 2, 2, generator=generator) for _ in range(8)]
    units = [F.normalize(x, dim=1) for x in maps]
    return [LevelView(units[4 * i], units[4 * i + 1], maps[4 * i + 2], maps[4 * i + 3]) for i in (0, 1)]


def test_keys_are_queued_image_by_image_after_the_loss():
    first, second = random_views()
    first.queries.requires_grad_()
    made = DenseCLMethod(["p3", "p4"], 4, queue_size=6, temperature=0.2, weight=1.0)
    before = made.queues["p3"].vectors.clone()
    loss = made("p3", (first, second), (no_pairs(2),) * 2)
    directions = [
        densecl_loss(a.queries, b.keys, nearest_pixels(a.features, b.target_features), before, 0.2)
        for a, b in ((first, second), (second, first))
    ]
    assert loss.item() == pytest.approx(sum(directions).item() / 2, abs=1e-6)
    loss.backward()  # still possible although the queue has moved on
    assert first.queries.grad.abs().sum() > 0
    pooled = [F.normalize(view.keys[i].mean(dim=(1, 2)), dim=0) for i in (0, 1) for view in (first, second)]
    torch.testing.assert_close(made.queues["p3"].vectors, torch.stack([*pooled, *before[4:]]))
    assert torch.equal(made.queues["p4"].vectors, before)  # each level has its own


def test_keys_are_queued_in_training_only():
    made = DenseCLMethod(["p3"], 4, queue_size=6).eval()
    before = rows(made.queues["p3"])
    made("p3", random_views(), (no_pairs(2),) * 2)
    assert rows(made.queues["p3"]) == before
    made.train()("p3", random_views(), no_pairs(2))
    assert rows(made.queues["p3"]) != before


SMALL = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 7)


def build(*opts, seed=0):
    torch.manual_seed(seed)
    return build_model(configs.tiny(*SMALL, *opts, config="pretrain/densecl_c5_200ep.yaml")).train()


def test_residual_blocks_start_as_those_of_the_authors():
    weight = build().backbone.res2[0].conv2.norm.weight
    assert torch.equal(weight, torch.ones_like(weight))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": torch.randint(0, 256, (3, 2, 3, 64, 64), generator=generator, dtype=torch.uint8),
        "boxes": torch.tensor([[[0.0, 0, 60, 60], [10, 10, 70, 70]]] * 3),
        "image_sizes": torch.tensor([[80.0, 80]] * 3),
    }


def test_config_trains_by_the_parts_of_all_methods():
    model = build()
    assert model.momentum == 0.999 and model.method.temperature == model.instance.temperature == 0.2
    assert model.ppm is None and model.instance.loss == "infonce" and model.instance_weight == 0.25
    (losses,) = train_model(model, map(batch, [0]))
    assert list(losses) == ["loss_pix_res5", "loss_ins"]
    # Unlearned, close to lambda * ln(1 + K) for K negatives of other images; K here is 7.
    assert 0 < losses["loss_pix_res5"] < math.log(8)
    # 3 images of 2 views: 6 of the 7 places.
    assert model.method.queues["res5"].position.item() == 6
    for part in (model.backbone.stem.conv1, model.projector["res5"][0], model.instance.projector[0]):
        assert part.weight.grad.abs().sum() > 0


def test_a_resumed_run_continues_with_its_queue():
    whole = build()
    history = train_model(whole, map(batch, range(4)))
    stopped = build()
    train_model(stopped, map(batch, range(2)))
    state = {name: value.clone() for name, value in stopped.state_dict().items()}
    assert {"method.queues.res5.vectors", "method.queues.res5.position"} <= set(state)
    resumed = build(seed=5)
    resumed.load_state_dict(state)
    assert train_model(resumed, map(batch, range(2, 4))) == history[2:]
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)

    forgetful = build(seed=5)
    forgetful.load_state_dict({name: x for name, x in state.items() if "queues" not in name}, strict=False)
    assert train_model(forgetful, map(batch, range(2, 4))) != history[2:]


def test_fpn_levels_have_a_queue_each():
    opts = ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"])
    opts += ("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"], "MODEL.PIXPRO.IN_FEATURES", ["p3", "p4"])
    model = build(*opts, "MODEL.PIXPRO.INSTANCE.WEIGHT", 0.0)
    with EventStorage():
        losses = model(batch(0))
    assert list(losses) == ["loss_pix_p3", "loss_pix_p4"]
    queues = [model.method.queues[level] for level in ("p3", "p4")]
    assert [queue.position.item() for queue in queues] == [6, 6]
    assert not torch.allclose(queues[0].vectors, queues[1].vectors)


def test_a_queue_without_a_place_is_a_mistake():
    with pytest.raises(UsageError, match="QUEUE_SIZE is 0.*at least 1"):
        build("MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 0)
