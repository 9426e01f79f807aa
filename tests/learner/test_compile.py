"""The learner under torch.compile: same losses, and the target still follows."""

import copy

import pytest
import torch
from distillation_helpers import Averages
from learner_helpers import SMALL, images, small_net

from pixpro_d2 import PixelLearner
from pixpro_d2.utils.errors import UsageError

OPTIONS = dict(SMALL, instance_weight=1.0, instance_layer="pool")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def train(learner, run):
    generator, losses = torch.Generator().manual_seed(5), []
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        loss, _ = run(images(), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.update_target()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("what", ["learner", "net", "net in place"])
def test_same_losses(what):
    options = dict(OPTIONS, teacher=Averages())
    plain = PixelLearner(small_net(), ["stem", "body"], **options)
    net = small_net()
    if what == "net":
        net = torch.compile(net, backend="eager")
    learner = PixelLearner(net, ["stem", "body"], **options)
    plain_state = {name.replace("_orig_mod.", ""): value for name, value in learner.state_dict().items()}
    plain.load_state_dict(copy.deepcopy(plain_state))
    run = learner
    if what == "learner":
        run = torch.compile(learner, backend="eager")
    elif what == "net in place":
        learner.net.compile(backend="eager")
    assert train(learner, run) == pytest.approx(train(plain, plain), abs=1e-5)


def test_the_features_are_one_graph():
    features = PixelLearner(small_net(), ["stem", "body"], **OPTIONS).backbone
    images = torch.rand(2, 3, 32, 32)
    found = torch.compile(features, backend="eager", fullgraph=True)(images)
    torch.testing.assert_close(found, features(images))


def test_same_losses_under_autocast():
    """The backward pass is traced, under the autocast of the forward pass, before it is called outside of it."""

    def losses(compiler):
        learner = PixelLearner(small_net(), ["stem", "body"], **OPTIONS)
        compiled = compiler(learner)

        def run(*inputs):
            with torch.autocast("cpu", torch.bfloat16):
                return compiled(*inputs)

        return train(learner, run)

    torch.manual_seed(0)
    expected = losses(lambda learner: learner)
    torch.manual_seed(0)
    assert losses(lambda learner: torch.compile(learner, backend="aot_eager")) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_a_network_that_was_compiled_and_run_works_or_is_an_error(mode):
    # Which of the two is up to the version of PyTorch; features of an earlier forward would be neither.
    net = torch.compile(small_net().train(mode), backend="eager")
    net(images(2, size=(32, 32)))
    try:
        learner = PixelLearner(net, "body", **SMALL).train()
        losses = train(learner, learner)
    except UsageError as error:
        assert "torch.compile has already run" in str(error)
    else:
        assert len(set(losses)) == 3
        assert learner.backbone(images(size=(32, 32)))["body"].shape == (4, 12, 8, 8)
