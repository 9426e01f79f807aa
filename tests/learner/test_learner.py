"""The learner: its loss against a slow restatement, what it trains, its options, and that it learns."""

import copy
import pickle

import oracle
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_backbone
from learner_helpers import images, seeded, small_learner, small_net
from torch import nn

import configs
from pixpro_d2 import PixelLearner
from pixpro_d2.modeling.pretrain.losses import infonce_loss
from pixpro_d2.modeling.pretrain.methods import PixContrastMethod
from pixpro_d2.modeling.pretrain.monitors import match_accuracy
from pixpro_d2.utils.errors import UsageError


def projections(learner, view):
    """What projectors of both branches make of a view; without norms a branch has no memory."""
    level = learner.in_features[0]
    online = learner.projector[level](learner.backbone(view)[level])
    with torch.no_grad():
        target = learner.target_projector[level](learner.target_backbone(view)[level])
    return online, target


@pytest.mark.parametrize("method", ["pixpro", "pixcontrast"])
def test_loss_against_slow(method):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Tanh())
    learner = PixelLearner(net, method=method, image_size=(24, 32), hidden_dim=8, out_dim=5, norm="", temperature=0.2)
    with torch.no_grad():
        for parameter in learner.target_backbone.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    x = images(3)
    loss, info = learner(x, seeded())
    views, boxes = learner.views(x, seeded())
    (p0, k0), (p1, k1) = (projections(learner, view) for view in views)
    boxes = [box.tolist() for box in boxes]
    if method == "pixpro":
        ppm = learner.ppm["output"]
        q0, q1 = (oracle.ppm_slow(p, ppm.value_transform(p), 2.0) for p in (p0, p1))
        q0, k0, q1, k1 = (F.normalize(v.double(), dim=1) for v in (q0, k0, q1, k1))
        expected = oracle.pixpro_loss_slow(q0, k1, boxes[0], boxes[1], 0.7)
        expected = expected + oracle.pixpro_loss_slow(q1, k0, boxes[1], boxes[0], 0.7)
    else:
        q0, k0, q1, k1 = (F.normalize(v.double(), dim=1) for v in (p0, k0, p1, k1))
        expected = oracle.pixcontrast_loss_slow(q0, k1, boxes[0], boxes[1], 0.7, 0.2)
        expected = (expected + oracle.pixcontrast_loss_slow(q1, k0, boxes[1], boxes[0], 0.7, 0.2)) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert info["loss_pix_output"].item() == pytest.approx(loss.item())
    masks = oracle.masks_slow(boxes[0], boxes[1], (3, 4), (3, 4), 0.7).float()
    assert info["positive_pairs/output"].item() == pytest.approx(masks.sum().item() / 3)
    assert info["images_without_pair/output"].item() == pytest.approx((masks.sum(dim=(1, 2)) == 0).float().mean())
    deviation = F.normalize(p0, dim=1).transpose(0, 1).flatten(1).std(dim=1).mean()
    assert info["feature_std/output"].item() == pytest.approx(deviation.item(), abs=1e-6)


@pytest.mark.parametrize("loss", ["byol", "infonce"])
def test_instance_loss(loss):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Tanh())
    options = dict(instance_weight=0.25, instance_loss=loss, temperature=0.2)
    learner = PixelLearner(net, image_size=24, hidden_dim=8, out_dim=5, norm="", **options)
    x = images(3)
    total, info = learner(x, seeded())
    branch, (views, _) = learner.instance, learner.views(x, seeded())
    maps = [net(view) for view in views]
    q = [F.normalize(branch.predictor(branch.projector(m)).mean(dim=(2, 3)), dim=1) for m in maps]
    k = [F.normalize(branch.projector(m).mean(dim=(2, 3)), dim=1) for m in maps]
    if loss == "byol":
        expected = oracle.byol_loss_slow(q[0], k[1]) + oracle.byol_loss_slow(q[1], k[0])
    else:
        expected = infonce_loss(q[0], k[1], 0, 0.2) + infonce_loss(q[1], k[0], 0, 0.2)
    assert info["loss_ins"].item() == pytest.approx(0.25 * expected.item(), abs=1e-5)
    assert total.item() == pytest.approx(info["loss_ins"].item() + info["loss_pix_output"].item(), abs=1e-6)


@pytest.mark.parametrize(
    "layers, options",
    [
        ((), {}),
        ((), dict(ppm=False)),
        ((), dict(ppm_num_layers=0, ppm_gamma=0.5)),
        ((), dict(ppm_num_layers=2, ppm_gamma=4, mean_over="matched")),
        ((), dict(method="pixcontrast")),
        ((), dict(method="pixcontrast", ppm=True)),
        ((), dict(method=PixContrastMethod(0.1))),
        (("stem", "body"), {}),
        (("stem.0", "stem"), dict(share_heads=False)),
        (("stem", "body"), dict(instance_weight=1.0, instance_layer="stem")),
        ((), dict(instance_weight=1.0, instance_layer="pool", instance_loss="infonce")),
        ((), dict(instance_weight=1.0, instance_layer="fc")),
        ((), dict(in_channels=1, augment="simclr")),
        ((), dict(in_channels=7, norm="")),
        ((), dict(image_size=(24, 40), distance_units="pixel", pos_ratio=1.4, flip_p=0.0, ratio_range=(1.0, 1.0))),
        ((), dict(augment=(nn.Identity(), nn.Identity()), mean=(0.0,) * 3, std=(1.0,) * 3)),
    ],
)
def test_every_option_trains(layers, options):
    learner = small_learner(*layers, **options)
    loss, info = learner(images(3, options.get("in_channels", 3)), seeded())
    loss.backward()
    assert torch.isfinite(loss) and not any(value.requires_grad or value.dim() for value in info.values())
    names = ("loss_pix_{}", "positive_pairs/{}", "images_without_pair/{}", "feature_std/{}")
    expected = {name.format(level.replace(".", "_")) for name in names for level in layers or ["body"]}
    assert set(info) == expected | ({"loss_ins"} if learner.instance else set())
    without = {name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None}
    allowed = ("backbone.net.fc", "backbone.net.idle") + (
        ("backbone.net.body",) if "body" not in (layers or "body") else ()
    )
    assert all(name.startswith(allowed) for name in without)
    for _, target in learner.momentum_pairs():
        assert not any(p.requires_grad for p in target.parameters())


def test_defaults():
    learner = small_learner("stem", "body")
    assert not learner.projector.shared and small_learner("stem.0", "stem").projector.shared
    assert learner.instance is None and learner.correspondence.pos_ratio == 0.7 and learner.method.mean_over == "all"
    assert learner.ppm["stem"].gamma == 2 and small_learner(method="pixcontrast").ppm is None
    projector = PixelLearner(small_net(), "body", image_size=32).projector["body"]
    assert projector[0].out_channels == 4096 and projector[3].out_channels == 256
    assert learner.net is learner.backbone.net and learner.views.crop["min_scale"] == 0.08


@pytest.mark.parametrize("instance_layer", [None, "pool", "fc"])
def test_a_batch_of_one_image(instance_layer):
    # The network's own norms see more than one value, the heads' norms one.
    learner = small_learner(instance_weight=1.0, instance_layer=instance_layer, image_size=(8, 4))
    learner.instance.projector[1].running_mean.add_(0.1)
    for size in [(8, 4), (40, 48)]:
        learner.views.size = size
        loss, _ = learner(images(1), seeded())
        loss.backward()
        assert torch.isfinite(loss)


def test_images_without_a_match():
    learner = small_learner(pos_ratio=0.0)
    loss, info = learner(images())
    assert loss.item() == 0 and info["images_without_pair/body"] == 1
    loss.backward()
    assert learner.net.stem[0].weight.grad.abs().max() == 0


@pytest.mark.parametrize("channels", [3, 256, 512])
def test_heads_fit_any_number_of_channels(channels):
    net = nn.Conv2d(3, channels, 8, 8)
    learner = PixelLearner(net, image_size=32, hidden_dim=8, out_dim=4)
    assert learner.projector["output"][0].in_channels == channels
    learner(images(2))[0].backward()


@pytest.mark.parametrize("side", [28, 56])
def test_large_maps(side):
    net = nn.Conv2d(3, 4, 4, 4)
    learner = PixelLearner(net, image_size=4 * side, hidden_dim=4, out_dim=4)
    loss, info = learner(images(2, size=(4 * side, 4 * side)))
    loss.backward()
    assert net.weight.grad.abs().max() > 0 and torch.isfinite(loss)


def test_no_step_before_the_first_changes_the_network():
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    learner = PixelLearner(net, "body", image_size=32, hidden_dim=8, out_dim=4, instance_weight=1.0)
    assert learner.net is net and list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for online, target in learner.momentum_pairs():
        assert all(torch.equal(a, b) for a, b in zip(online.state_dict().values(), target.state_dict().values()))


def test_target_norms_keep_their_own_statistics():
    learner = small_learner()
    learner(images())
    online, target = learner.net.stem[1], learner.target_backbone.net.stem[1]
    assert online.num_batches_tracked == target.num_batches_tracked == 2  # one for each view
    before = target.running_mean.clone()
    learner.update_target()
    assert torch.equal(target.running_mean, before)


@pytest.mark.parametrize(
    "total_steps, step, momentum", [(None, None, 0.9), (None, 7, 0.9), (10, 4, 0.95), (10, 9, 1.0)]
)
def test_update_target(total_steps, step, momentum):
    learner = small_learner(momentum=0.9, total_steps=total_steps, instance_weight=1.0)
    pairs = learner.momentum_pairs()
    with torch.no_grad():
        for online, _ in pairs:
            for parameter in online.parameters():
                parameter.add_(torch.randn(parameter.shape))
    online = [p for module, _ in pairs for p in module.parameters()]
    target = [p for _, module in pairs for p in module.parameters()]
    if total_steps:
        assert oracle.momentum_slow(step + 1, total_steps, 0.9) == pytest.approx(momentum)
    expected = oracle.ema_slow(online, target, momentum)
    learner.update_target(step)
    for parameter, value in zip(target, expected):
        torch.testing.assert_close(parameter.detach(), value)


def test_update_target_needs_the_step_of_a_schedule():
    with pytest.raises(UsageError, match="needs the number of the step"):
        small_learner(total_steps=5).update_target()


def test_freeze_unused():
    learner = small_learner(instance_weight=1.0, instance_layer="pool")
    before = copy.deepcopy(learner.state_dict())
    assert learner.freeze_unused() == ["fc.weight", "fc.bias", "idle.weight", "idle.bias"]
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert learner.training and all(module.training for module in learner.net.modules())
    learner(images())[0].backward()
    assert all((p.grad is not None) == p.requires_grad for p in learner.net.parameters())
    assert learner.freeze_unused() == []
    assert small_learner("stem").freeze_unused()[:2] == ["body.0.weight", "body.0.bias"]
    learner.net.stem.requires_grad_(False), learner.net.body.requires_grad_(False)
    learner.net.fc.requires_grad_(True)
    learner = PixelLearner(learner.net, "body", image_size=32, hidden_dim=8, out_dim=4)
    assert learner.freeze_unused() == ["fc.weight", "fc.bias"] and learner.freeze_unused() == []


def test_detectron2_backbones():
    backbone = build_backbone(configs.tiny())
    options = dict(image_size=64, hidden_dim=16, out_dim=8, instance_weight=1.0)
    learner = PixelLearner(backbone, ["p3", "p5"], **options)
    loss, info = learner(images(2, size=(70, 80)))
    loss.backward()
    assert learner.net is backbone and learner.projector.shared
    assert {"loss_pix_p3", "loss_pix_p5", "loss_ins"} < set(info)
    assert "fpn_output4.weight" in learner.freeze_unused()
    for layers, more, message in [
        ("res5", {}, "no feature 'res5': choose from p3, p4, p5, p6"),
        (None, {}, "no feature None"),
        ("p3", dict(instance_layer="p3"), "instance_layer is not for a detectron2 Backbone"),
        ("p3", dict(image_size=40), r"image_size is \(40, 40\); this backbone needs multiples of 32"),
        ("p6", {}, "Feature 'p6' gives a feature map of 1 x 1"),
    ]:
        with pytest.raises(UsageError, match=message):
            PixelLearner(backbone, layers, **{**options, **more})


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(method="pixpr"), "method is 'pixpr'; it must be pixpro or pixcontrast"),
        (dict(method=PixContrastMethod), "method is the class PixContrastMethod: give an object of the class"),
        (dict(mean_over="some"), "mean_over is 'some'"),
        (dict(ppm_num_layers=3), "ppm_num_layers is '3'; it must be 0, 1 or 2"),
        (dict(ppm_gamma=0), "ppm_gamma is 0; it must be positive"),
        (dict(method="pixcontrast", temperature=-0.3), r"temperature is -0\.3; it must be positive"),
        (dict(pos_ratio=float("nan")), "pos_ratio is nan; it must be at least 0"),
        (dict(momentum=2.0), r"momentum is 2\.0; it must be between 0 and 1"),
        (dict(total_steps=0), "total_steps is 0; it must be positive"),
        (dict(hidden_dim=0), "hidden_dim is 0; it must be positive"),
        (dict(variance_weight=-1.0), r"variance_weight is -1\.0; it must be at least 0"),
        (dict(norm="batch"), r"norm of the heads is 'batch', which is unknown: take BN, GN or ''"),
        (
            dict(norm="GN", hidden_dim=48),
            "norm GN has 32 groups, and a layer of the heads has 48 channels: choose mult",
        ),
        (dict(instance_weight=1, instance_loss="moco"), "instance_loss is 'moco'; it must be byol or infonce"),
        (dict(instance_weight=1, instance_layer="idle"), "Layer 'idle' was not run"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=message):
        small_learner(**options)


def test_no_layers():
    with pytest.raises(UsageError, match="^layers is empty: name a layer"):
        PixelLearner(small_net(), [], image_size=32)


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (lambda x: 255 * x, "from 0 to 255"),
        (lambda x: (x - 0.45) / 0.225, "from -2 to 2.444"),
        (lambda x: x * float("nan"), "from nan to nan"),
    ],
)
def test_images_of_another_range(change, values):
    learner, batch = small_learner(), images()
    batch[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    for _ in range(2):
        with pytest.raises(
            UsageError, match=rf"given images with values {values}: it takes values in \[0, 1\], before"
        ):
            learner(change(batch))
    small_learner()(1.2 * batch)  # as after a bicubic resampling
    small_learner(augment="none", mean=(100.0,) * 3, std=(50.0,) * 3)(change(batch))  # no check


def test_a_teacher_that_learns():
    net = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Tanh())
    with pytest.raises(UsageError, match=r"teacher has parameters of net, which it would freeze: give copy.deepcopy"):
        PixelLearner(net, image_size=24, hidden_dim=8, out_dim=5, norm="", teacher=nn.Sequential(net[0]))
    assert all(p.requires_grad for p in net.parameters())


def test_heads_cannot_be_shared_between_different_channels():
    with pytest.raises(UsageError, match="share_heads is True, but.*'stem': 8, 'body': 12"):
        small_learner("stem", "body", share_heads=True)


def test_copies_pickles_and_state_dicts():
    learner = small_learner("stem", "body", instance_weight=1.0)
    loss, _ = learner(images(), seeded())
    for other in (copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert other.net is not learner.net
        assert other(images(), seeded())[0].item() == pytest.approx(loss.item(), abs=1e-6)
    fresh = small_learner("stem", "body", instance_weight=1.0)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(learner.state_dict())
    assert fresh(images(), seeded())[0].item() == pytest.approx(loss.item(), abs=1e-6)


def test_half_precision():
    learner = small_learner("stem", "body", instance_weight=1.0)
    expected, exact = learner(images(), seeded())
    with torch.autocast("cpu", torch.bfloat16):
        loss, info = learner(images(), seeded())
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected.item(), abs=0.05)
    assert info["positive_pairs/body"] == exact["positive_pairs/body"]  # geometry is not rounded


def test_it_learns():
    # Scenes of colour ramps: the same point looks the same in both views, so that matching can be learned.
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    batch = torch.stack([torch.stack([x, y, torch.full_like(x, shade)]) for shade in (0.0, 0.3, 0.6, 1.0)])
    learner = small_learner(image_size=32, min_scale=0.3, augment="none", method="pixcontrast", momentum=0.9)
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-3)

    def measure():
        generator, values = seeded(9), []
        for _ in range(8):
            with torch.no_grad():
                losses, comparisons = learner.compare(*learner.views(batch, generator))
            (q, k), positives = comparisons["body"].views, comparisons["body"].positives
            values.append([losses["loss_pix_body"], match_accuracy(q.queries, k.keys, positives)])
        return torch.tensor(values).mean(dim=0).tolist()

    loss, accuracy = measure()
    for _ in range(60):
        optimizer.zero_grad()
        learner(batch)[0].backward()
        optimizer.step()
        learner.update_target()
    trained_loss, trained_accuracy = measure()
    assert trained_loss < loss - 0.3 and trained_accuracy > accuracy + 0.1
