"""The learner's teacher: equal to the model's distillation, apart from the network, and one sentence on mistakes."""

import copy

import pytest
import torch
from distillation_helpers import Averages, slow_loss
from learner_helpers import Tokens, images, seeded, small_learner
from torch import nn

from pixpro_d2 import PixelLearner
from pixpro_d2.utils.errors import UsageError


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


@pytest.mark.parametrize("options", [{}, dict(distill_view="same", distill_loss="smooth_l1", distill_weight=0.5)])
def test_loss_against_slow(options):
    """The teacher takes images in [0, 1] as they are, the student ImageNet's mean and deviation."""
    plain = dict(teacher_mean=(0.0,) * 3, teacher_std=(1.0,) * 3)
    network = Averages()
    learner = small_learner("stem", "body", teacher=network, **plain, **options).eval()
    views, boxes = learner.views(images(), seeded())
    _, info = learner(images(), seeded())
    pixels = [view * learner.views.normalize.std + learner.views.normalize.mean for view in views]
    with torch.no_grad():
        maps = [network(x).numpy() for x in pixels]
        features = [learner.backbone(view) for view in views]
        for level in ("stem", "body"):
            projector = learner.distillation.projector[level]
            projections = [projector(x[level]).numpy() for x in features]
            names = {"view": options.get("distill_view", "other"), "loss": options.get("distill_loss", "cosine")}
            want = slow_loss(projections, maps, [box.numpy() for box in boxes], **names)
            weight = options.get("distill_weight", 1.0)
            assert info[f"loss_distill_{level}"].item() == pytest.approx(weight * want / 2, rel=1e-3)


def test_the_teacher_stays_apart_and_the_network_learns():
    network = Averages()
    before = copy.deepcopy(network.state_dict())
    learner = small_learner(teacher=network, pixel_weight=0.0)
    assert not {id(p) for p in network.parameters()} & {id(p) for p in learner.parameters()}
    assert not [name for name in learner.state_dict() if "teacher" in name or "gain" in name]
    learner.freeze_unused()
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], 0.1)
    losses = []
    for step in range(8):
        loss, info = learner(images(8), seeded())
        assert list(info) == ["loss_distill_body"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in learner.parameters() if p.requires_grad)
        optimizer.step()
        learner.update_target(step)
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and not network.training
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


def test_a_target_that_does_not_run_takes_the_online_statistics():
    """Else an exported target would divide by the deviation 1 of norms that saw no image."""
    learner = small_learner(teacher=Averages(), pixel_weight=0.0, momentum=0.5)
    learner(images())
    learner.update_target()
    online, target = learner.net.stem[1], learner.target_backbone.net.stem[1]
    assert online.num_batches_tracked == target.num_batches_tracked == 2
    assert torch.equal(online.running_var, target.running_var) and not (target.running_var == 1).any()


def test_a_target_without_buffers_that_does_not_run():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 8, 1), nn.Conv2d(6, 6, 1))
    learner = PixelLearner(net, "1", image_size=32, teacher=Averages(), pixel_weight=0.0, norm="GN", out_dim=32)
    assert not list(learner.net.buffers())
    learner.update_target()
    assert torch.equal(learner.target_backbone.net[0].weight, net[0].weight)


@pytest.mark.parametrize("options", [{}, dict(teacher_patch_size=8)])
def test_a_teacher_that_the_users_module_puts_back_into_train_mode(options):
    """As in a LightningModule with the teacher as an attribute; a batch norm would then change its statistics."""
    inner = Averages()
    network = nn.Sequential(inner, nn.Flatten(2), Transposed()) if options else inner
    module = nn.ModuleDict({"learner": small_learner(teacher=network, pixel_weight=0.0, **options), "teacher": network})
    module.train()
    module["learner"](images(), seeded())
    assert not inner.training and inner.norm.num_batches_tracked == 0


def test_beside_the_method_and_with_tokens():
    learner = small_learner(teacher=Tokens(8), teacher_patch_size=8, share_heads=False)
    loss, info = learner(images(), seeded())
    assert {"loss_pix_body", "loss_distill_body", "feature_std/body"} < set(info)
    assert loss.item() == pytest.approx((info["loss_pix_body"] + info["loss_distill_body"]).item(), abs=1e-6)


def test_grey_images_and_a_teacher_of_colours():
    network = Averages()
    learner = small_learner(teacher=network, in_channels=1, mean=(0.5,), std=(0.25,))
    x = torch.randn(2, 1, 16, 16)
    colours = (x * 0.25 + 0.5).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(learner.distillation.teacher(x), network((colours - mean) / std), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(pixel_weight=0), "^pixel_weight is 0, and no other loss has a weight: raise it, or give a teacher"),
        (
            dict(teacher=Tokens(8)),
            r"^The teacher gives a tensor of shape \(2, 17, 3\) .*, or give teacher_patch_size for",
        ),
        (dict(teacher=Tokens(8), teacher_patch_size=4), "^The teacher gives 17 tokens, but images of 32 x 32"),
        (dict(teacher=Tokens(8), teacher_patch_size=5), "^The teacher has patches of 5 pixels, which do not fill"),
        (dict(teacher=nn.Conv2d(4, 5, 3)), "^The teacher cannot be run on images of shape"),
        (dict(teacher=Averages(), in_channels=7), "^The teacher takes images of 3 channels, but the views have 7"),
        (
            dict(teacher=Averages(), teacher_mean=(0.5,)),
            "^The teacher takes images of 1 channels, but the views have 3",
        ),
        (
            dict(teacher=Averages(), teacher_std=(58.4,) * 3),
            r"and teacher_std \(58.4, 58.4, 58.4\), but the images have",
        ),
        (dict(teacher=Averages(), distill_view="both"), "^distill_view is 'both'; it must be other or same"),
        (dict(teacher=Averages(), distill_loss="l2"), "^distill_loss is 'l2'; it must be cosine or smooth_l1"),
        (dict(teacher=Averages(), distill_weight=0), "^distill_weight is 0; it must be above 0, or give no teacher"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        small_learner(**options)
