"""The linear classifier on real detectron2 backbones."""

import pytest
import torch
import torch.nn.functional as F
from classification_helpers import build, colored_images
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils.events import EventStorage

from pixpro_d2.evaluation.classification import ClassificationEvaluator
from pixpro_d2.modeling.freeze import freeze_trunk

FPN = {
    "MODEL__BACKBONE__NAME": "build_resnet_fpn_backbone",
    "MODEL__RESNETS__OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL__FPN__IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL__FPN__OUT_CHANNELS": 8,
}
REGNET = {
    "MODEL__BACKBONE__NAME": "build_regnet_backbone",
    "MODEL__REGNETS__DEPTH": 13,
    "MODEL__REGNETS__NORM": "BN",
}


def linear(**keys):
    return build("LinearClassifier", **keys)


def loss_of(model, batch, iteration=0):
    with EventStorage(iteration) as storage:
        return model(batch)["loss_cls"], storage.latest()


@pytest.mark.parametrize("keys, channels", [({}, 512), (FPN, 512), (REGNET, 384)], ids=["R18", "R18-FPN", "RegNet"])
def test_loss_and_logits_by_hand(keys, channels):
    model = linear(**keys).eval()
    assert model.fc.weight.shape == (4, channels)
    batch = colored_images(3)
    images = torch.stack([(x["image"].float() - model.pixel_mean) / model.pixel_std for x in batch])
    trunk = model.backbone.bottom_up if keys is FPN else model.backbone
    last = trunk(images)["s4" if keys is REGNET else "res5"]
    logits = last.flatten(2).mean(dim=2) @ model.fc.weight.T + model.fc.bias
    outputs = model(batch)
    assert [list(x) for x in outputs] == [["scores"]] * 3 and [list(x["scores"]) for x in outputs] == [["linear"]] * 3
    torch.testing.assert_close(torch.stack([x["scores"]["linear"] for x in outputs]), logits)
    freeze_trunk(model)  # so that train mode does not change the norms
    loss, _ = loss_of(model.train(), batch)
    expected = -sum(logits[i].log_softmax(dim=0)[i] for i in range(3)) / 3
    torch.testing.assert_close(loss, expected)


def test_of_an_fpn_only_the_network_below_it_runs():
    model = linear(**FPN)
    ran = []
    model.backbone.fpn_output5.register_forward_hook(lambda *_: ran.append(1))
    model.eval()(colored_images(1))
    assert not ran
    # Then DistributedDataParallel must expect parameters without a gradient.
    assert model.has_unused_parameters and not linear().has_unused_parameters


def test_a_frozen_backbone_gets_no_graph_and_keeps_its_statistics():
    model = linear()
    freeze_trunk(model)
    assert any(isinstance(x, FrozenBatchNorm2d) for x in model.modules())
    before = {name: x.clone() for name, x in model.backbone.state_dict().items()}
    model.train()
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output["res5"]))
    loss, _ = loss_of(model, colored_images(4))
    loss.backward()
    assert not seen[0].requires_grad
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(x, before[name]) for name, x in model.backbone.state_dict().items())


def test_without_freezing_the_whole_network_is_trained():
    model = linear().train()
    loss, _ = loss_of(model, colored_images(4))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_linear_evaluation_of_separable_images_reaches_100_per_cent():
    model = linear()
    freeze_trunk(model)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1, momentum=0.9)
    train, test = colored_images(16), colored_images(40, seed=1)
    for _ in range(25):
        loss, _ = loss_of(model.train(), train)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    evaluator = ClassificationEvaluator()
    with torch.no_grad():
        evaluator.process(test, model.eval()(test))
    assert evaluator.evaluate()["classification"]["linear_top1"] == 100


def test_training_accuracy_is_recorded_now_and_then():
    model = linear(SOLVER__METRICS_PERIOD=5).train()
    freeze_trunk(model)
    batch = colored_images(4)
    with torch.no_grad():  # all images take class 2
        model.fc.weight.zero_()
        model.fc.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    assert loss_of(model, batch, iteration=3)[1] == {}
    loss, scalars = loss_of(model, batch, iteration=4)
    assert scalars == {"train_top1": (25.0, 4)}
    logits = torch.tensor([[0.0, 0.0, 1.0, 0.0]]).expand(4, 4)
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(4)))


def test_under_autocast_the_linear_layer_keeps_full_precision():
    model = linear()
    freeze_trunk(model)
    features = []
    model.fc.register_forward_hook(lambda module, inputs, output: features.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_of(model.train(), colored_images(2))
    assert features == [(torch.float32, torch.float32)]


def test_initialisation_of_the_layer():
    # PyTorch's default for a linear layer: uniform within 1 / sqrt(channels).
    weight, bound = linear().fc.weight.detach(), 512**-0.5
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.05)
