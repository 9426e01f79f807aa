"""Steps with gradients that are not finite change nothing, whatever the optimiser."""

import pytest
import torch
from torch import nn

from pixpro_d2.engine.loop import StepGuard, non_finite
from pixpro_d2.solver.build import ready_to_load
from pixpro_d2.solver.lars import LARS

OPTIMIZERS = {
    "lars": lambda params: LARS(params, lr=0.1),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "fused sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, fused=True),
    "fused adamw": lambda params: torch.optim.AdamW(params, lr=0.1, fused=True),
}
FINITE = torch.tensor(True)


def model_and_guard(kind, scaler=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    return model, StepGuard(model, OPTIMIZERS[kind](model.parameters()), scaler or torch.amp.GradScaler(enabled=False))


def step(model, guard, scale=1.0, bad=None, finite_loss=FINITE):
    model.zero_grad()
    for i, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, 0.1 * (i + 1)) * scale
    if bad is not None:
        model[0].bias.grad[1] = bad
    guard.step(finite_loss)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_bad_step_is_as_if_it_had_not_been(kind, bad):
    (ours, guard), (expected, other) = model_and_guard(kind), model_and_guard(kind)
    for value in (None, bad, None, bad, bad):
        step(ours, guard, bad=value)
    for _ in range(2):
        step(expected, other)
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), expected.parameters()))
    ours, theirs = guard.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i][name], theirs[i][name]) for i in theirs for name in theirs[i])
    assert int(guard.skipped) == 3 and int(guard.in_a_row) == 2


def test_with_a_scaler_only_losses_count():
    """The scale is searched by steps that overflow; that is no fault as long as the loss itself is finite."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model, guard = model_and_guard("lars", scaler)
    before = [p.clone() for p in model.parameters()]
    scaler.scale(torch.ones(()))  # as the loss is in training: sets the scaler up
    step(model, guard, bad=float("inf"))
    assert scaler.get_scale() == 2 and int(guard.skipped) == int(guard.in_a_row) == 0
    step(model, guard, bad=float("nan"), finite_loss=~FINITE)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before))
    assert int(guard.skipped) == int(guard.in_a_row) == 1
    step(model, guard, scale=scaler.get_scale())
    expected, other = model_and_guard("lars")
    step(expected, other)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected.parameters()))
    assert int(guard.skipped) == 1 and int(guard.in_a_row) == 0


def test_gradients_that_no_scale_mends_count():
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model, guard = model_and_guard("lars", scaler)
    scaler.scale(torch.ones(()))
    counted = []
    for _ in range(6):  # scales 4, 2, 1, 1/2, 1/4, 1/8
        step(model, guard, bad=float("nan"))
        counted.append(int(guard.in_a_row))
    assert counted == [0, 0, 0, 1, 2, 3] and int(guard.skipped) == 3


def test_momentum_of_fused_sgd_is_defined_when_the_first_step_is_left_out():
    model, guard = model_and_guard("fused sgd")
    ready_to_load(guard.optimizer)
    assert all(state["momentum_buffer"].eq(0).all() for state in guard.optimizer.state.values())
    step(model, guard, bad=float("nan"))
    expected, other = model_and_guard("sgd")
    for _ in range(2):
        step(model, guard), step(expected, other)
    for p, q in zip(model.parameters(), expected.parameters()):
        torch.testing.assert_close(p, q)
    states = [x.optimizer.state_dict()["state"] for x in (guard, other)]
    assert len(states[0]) == len(states[1]) == 4
    for i in states[1]:
        torch.testing.assert_close(states[0][i]["momentum_buffer"], states[1][i]["momentum_buffer"])


def test_statistics_of_a_bad_batch_are_put_back():
    model, guard = model_and_guard("sgd")
    norm = model[1]
    norm.running_mean = torch.full((2,), 2.0)  # another tensor than the one that the guard first saw
    guard.keep_buffers()
    norm.running_mean.fill_(3)
    norm.running_var.fill_(float("nan"))
    guard.restore_buffers()
    assert norm.running_mean.tolist() == [3, 3] and norm.running_var.tolist() == [1, 1]


def test_non_finite_leaves_out_what_has_no_gradient():
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([1.0, 2.0])
    assert non_finite([[p], [q]]) == 0
    p.grad[0] = float("inf")
    assert non_finite([[p], [q]]) == 1
