import copy

import oracle
import pytest
import torch

from pixpro_d2.solver import lars
from pixpro_d2.solver.lars import LARS

SHAPES = [(4, 3), (4,), (2, 3, 1, 1), (5,), (2, 2, 3, 3)]


def parameter(values):
    return torch.nn.Parameter(torch.as_tensor(values, dtype=torch.float32).clone())


def optimizer_of(params, lr, weight_decay=1e-5, momentum=0.9):
    """LARS with 1-D parameters excluded from adaptation and weight decay."""
    groups = [
        {"params": [p for p in params if p.ndim != 1]},
        {"params": [p for p in params if p.ndim == 1], "adapt": False, "weight_decay": 0.0},
    ]
    return LARS([g for g in groups if g["params"]], lr=lr, momentum=momentum, weight_decay=weight_decay)


def random_tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def set_gradients(params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else g.clone()


def close(actual, expected, tolerance=1e-5):
    expected = torch.as_tensor(expected).double()
    torch.testing.assert_close(actual.detach().double(), expected, atol=tolerance, rtol=0)


def test_two_steps_T14():  # noqa: N802
    w, b = parameter([[1, 2], [3, 4]]), parameter([0.5, -0.5])
    grads = [torch.tensor([[0.1, 0.2], [0.3, 0.4]]), torch.tensor([0.01, 0.02])]
    optimizer = optimizer_of([w, b], lr=4.0)
    set_gradients([w, b], grads)
    optimizer.step()
    close(w, [[0.99599999, 1.99199998], [2.98799992, 3.98399997]])
    close(b, [0.46, -0.58])
    set_gradients([w, b], grads)
    optimizer.step()
    close(w, [[0.98841602, 1.97683203], [2.96524787, 3.95366406]])
    close(b, [0.384, -0.732])


def test_two_steps_of_slotcons_recipe_S13():  # noqa: N802
    """Biases have neither decay nor scaling; a weight of 0 has no scaling (S13b)."""
    w, b, zero = parameter([[1, 2], [3, 4]]), parameter([0.5, -0.5]), parameter([[0.0, 0], [0, 0]])
    optimizer = optimizer_of([w, b, zero], lr=2.0)
    gradient = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    set_gradients([w, b, zero], [gradient, torch.tensor([0.01, 0.02]), gradient])
    optimizer.step()
    close(w, [[0.998, 1.996], [2.994, 3.992]])
    close(b, [0.48, -0.54])
    close(zero, [[-0.2, -0.4], [-0.6, -0.8]])
    set_gradients([w, b], [gradient, torch.tensor([0.01, 0.02])])
    optimizer.step()
    close(w, [[0.994204, 1.988408], [2.982612, 3.976817]])
    close(b, [0.442, -0.616])


def test_zero_parameter_takes_the_plain_step_T14b():  # noqa: N802
    w = parameter(torch.zeros(2, 2))
    optimizer = optimizer_of([w], lr=4.0)
    set_gradients([w], [torch.tensor([[0.1, 0.2], [0.3, 0.4]])])
    optimizer.step()
    close(w, [[-0.4, -0.8], [-1.2, -1.6]])


@pytest.mark.parametrize("weight_decay", [0.0, 1e-5, 0.1], ids=["wd-0", "wd-1e-5", "wd-.1"])
@pytest.mark.parametrize("momentum", [0.0, 0.9], ids=["plain", "momentum"])
def test_random_steps_against_slow(momentum, weight_decay):
    params = [parameter(t) for t in random_tensors(0)]
    slow, buffers = [p.detach().double() for p in params], [None] * len(params)
    optimizer = optimizer_of(params, lr=1.0, weight_decay=weight_decay, momentum=momentum)
    for step in range(8):
        # The buffer must not contain the learning rate, which changes all the time.
        lr = 0.1 * (step + 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        grads = random_tensors(10 + step)
        set_gradients(params, grads)
        optimizer.step()
        oracle.lars_step_slow(slow, [g.double() for g in grads], buffers, lr, momentum, weight_decay)
    for p, expected in zip(params, slow, strict=True):
        close(p, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-5], ids=["wd-0", "wd-1e-5"])
def test_zero_gradient(weight_decay):
    # Without weight decay nothing moves; with it, the decay is what gets scaled.
    params = [parameter(t) for t in random_tensors(1)]
    grads = [torch.zeros_like(p) for p in params]
    slow, buffers = [p.detach().double() for p in params], [None] * len(params)
    optimizer = optimizer_of(params, lr=0.5, weight_decay=weight_decay)
    for _ in range(2):
        set_gradients(params, grads)
        optimizer.step()
        oracle.lars_step_slow(slow, [g.double() for g in grads], buffers, 0.5, 0.9, weight_decay)
    for p, expected in zip(params, slow, strict=True):
        assert torch.isfinite(p).all()
        close(p, expected)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1], ids=["no decay", "decay"])
@pytest.mark.parametrize("momentum", [0.0, 0.9], ids=["plain", "momentum"])
def test_large_calls_as_on_a_gpu_give_the_same(momentum, weight_decay):
    small, large = ([parameter(t) for t in random_tensors(7)] for _ in range(2))
    optimizers = [optimizer_of(params, 0.3, weight_decay, momentum) for params in (small, large)]
    optimizers[1]._update_on_cpu = optimizers[1]._update_on_gpu
    for step in range(4):
        for params, optimizer in zip((small, large), optimizers):
            set_gradients(params, random_tensors(60 + step))
            optimizer.step()
    assert not torch.equal(large[0].grad, small[0].grad)  # large calls scale them in place
    for p, other in zip(small, large, strict=True):
        close(p, other.detach(), 1e-6)


def test_pieces_in_the_cache_do_not_matter(monkeypatch):
    w, g = torch.randn(2, 1000, generator=torch.Generator().manual_seed(3))
    group = {"weight_decay": 0.5, "trust_coefficient": 0.001, "eps": 1e-8}
    expected = 0.001 * w.norm().item() / ((g + 0.5 * w).norm().item() + 1e-8)
    for cached in (7, 500, 2**18):
        monkeypatch.setattr(lars, "CACHED", cached)
        assert lars.trust_ratio(w, g, group) == pytest.approx(expected, rel=1e-6)


def test_gradient_that_the_weight_decay_cancels():
    """The ratio of what is left, 1e-5 of the gradient, is large, and exact to 1e-3 all the same."""
    w = torch.randn(1000, generator=torch.Generator().manual_seed(3))
    g = -0.1 * w * (1 + 1e-5 * torch.arange(1000) / 1000)
    left = (g.double() + 0.1 * w.double()).norm().item()
    group = {"weight_decay": 0.1, "trust_coefficient": 0.001, "eps": 0.0}
    assert lars.trust_ratio(w, g, group) == pytest.approx(0.001 * w.norm().item() / left, rel=1e-3)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1], ids=["no decay", "decay"])
def test_an_infinite_gradient_is_not_a_plain_step(weight_decay):
    """Without the guard that skips such a step, the values are no numbers, as in the official code."""
    w = parameter([[1.0, 1.0], [1.0, 1.0]])
    optimizer = optimizer_of([w], lr=1.0, weight_decay=weight_decay)
    set_gradients([w], [torch.tensor([[float("inf"), 0.5], [0.5, 0.5]])])
    optimizer.step()
    assert w[0, 0].isnan() and torch.equal(w.detach().flatten()[1:], torch.ones(3))


def test_half_precision_on_a_cpu_is_an_error():
    w = torch.nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    w.grad = torch.ones_like(w)
    with pytest.raises(RuntimeError, match="LARS on a CPU updates float32 and float64, not torch.bfloat16"):
        optimizer_of([w], lr=1.0).step()


def test_a_step_on_a_cpu_leaves_the_gradients_as_they_are():
    params = [parameter(t) for t in random_tensors(8)]
    set_gradients(params, random_tensors(9))
    optimizer_of(params, lr=0.5, weight_decay=0.1).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, random_tensors(9), strict=True))


def test_parameters_without_gradient_are_skipped():
    params = [parameter(t) for t in random_tensors(2)]
    slow, buffers = [p.detach().double() for p in params], [None] * len(params)
    optimizer = optimizer_of(params, lr=0.5)
    for step, missing in enumerate([(0, 1), (0, 3), (2,), ()]):
        grads = [None if i in missing else g for i, g in enumerate(random_tensors(20 + step))]
        before = [p.detach().clone() for p in params]
        set_gradients(params, grads)
        optimizer.step()
        grads = [None if g is None else g.double() for g in grads]
        oracle.lars_step_slow(slow, grads, buffers, 0.5, 0.9, 1e-5)
        for i in missing:
            assert torch.equal(params[i], before[i])
    for p, expected in zip(params, slow, strict=True):
        close(p, expected)


def test_step_without_any_gradient():
    w = parameter(torch.ones(2, 2))
    optimizer_of([w], lr=1.0).step()
    assert torch.equal(w, torch.ones(2, 2))


def test_group_without_adaptation_is_sgd():
    ours, theirs = ([parameter(t) for t in random_tensors(3)] for _ in range(2))
    optimizer = LARS([{"params": ours, "adapt": False, "weight_decay": 0.01}], lr=0.1, momentum=0.9)
    reference = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(4):
        grads = random_tensors(30 + step)
        for params, stepper in ((ours, optimizer), (theirs, reference)):
            set_gradients(params, grads)
            stepper.step()
    for p, expected in zip(ours, theirs, strict=True):
        close(p, expected.detach(), 1e-6)


def test_groups_adapt_by_default():
    optimizer = LARS([parameter(torch.ones(2, 2))], lr=1.0)
    assert [group["adapt"] for group in optimizer.param_groups] == [True]


def test_trust_coefficient_scales_the_step():
    w, twice = parameter(torch.ones(2, 2)), parameter(torch.ones(2, 2))
    for p, trust in ((w, 0.001), (twice, 0.002)):
        optimizer = LARS([p], lr=1.0, trust_coefficient=trust)
        p.grad = torch.full((2, 2), 3.0)
        optimizer.step()
    close(2 * (1 - w), 1 - twice.detach(), 1e-6)


def test_weight_decay_of_the_groups_is_kept():
    params = [parameter(t) for t in random_tensors(4)]
    optimizer = optimizer_of(params, lr=1.0, weight_decay=0.02)
    set_gradients(params, random_tensors(5))
    optimizer.step()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]


def test_step_runs_the_closure():
    w = parameter(torch.ones(2, 2))

    def closure():
        loss = w.sum()
        loss.backward()
        return loss

    optimizer = optimizer_of([w], lr=1.0)
    assert optimizer.step(closure).item() == 4.0
    assert (w < 1).all()


def test_state_dict_round_trip_continues_identically():
    params = [parameter(t) for t in random_tensors(6)]
    optimizer = optimizer_of(params, lr=0.3)
    for step in range(3):
        set_gradients(params, random_tensors(40 + step))
        optimizer.step()
    copies = [parameter(p.detach()) for p in params]
    resumed = optimizer_of(copies, lr=123.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3):
        grads = random_tensors(50 + step)
        for group, stepper in ((params, optimizer), (copies, resumed)):
            set_gradients(group, grads)
            stepper.step()
    for p, other in zip(params, copies, strict=True):
        assert torch.equal(p, other)


def test_a_step_copies_no_channels_last_weight():
    """PyTorch's fused SGD would copy each on the CPU, which takes five times as long as the step."""
    p = parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    optimizer = optimizer_of([p], lr=1.0)
    for _ in range(2):  # the first step makes the momentum
        p.grad = torch.randn_like(p)
        with torch.profiler.profile() as profile:
            optimizer.step()
    names = {event.name for event in profile.events()}
    assert "aten::_fused_sgd_" in names and not names & {"aten::clone", "aten::contiguous"}


def test_memory_formats_of_weights_gradients_and_momentum_may_differ():
    """A checkpoint in one memory format goes on in the other: the same numbers lie in another order."""
    torch.manual_seed(0)
    values, grads = torch.randn(4, 3, 2, 2), [torch.randn(4, 3, 2, 2) for _ in range(3)]
    plain, last = parameter(values), parameter(values)
    last.data = last.data.contiguous(memory_format=torch.channels_last)
    optimizers = [optimizer_of([p], lr=1.0) for p in (plain, last)]
    for grad in grads[:2]:
        set_gradients([plain], [grad])
        last.grad = grad.clone()  # contiguous, other than the weight
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(last, plain, check_stride=False)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for p, optimizer in zip((plain, last), optimizers):
        set_gradients([p], [grads[2]])
        optimizer.step()
    torch.testing.assert_close(last, plain, check_stride=False)
    assert optimizers[1].state[last]["momentum_buffer"].stride() == last.stride()
