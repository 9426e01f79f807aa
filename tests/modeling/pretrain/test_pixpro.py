"""The meta-architecture on real detectron2 backbones, and one whole training step against a slow oracle."""

import copy
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.engine.hooks import EMAHook
from pixpro_d2.modeling.pretrain.losses import infonce_loss
from pixpro_d2.solver.build import build_optimizer
from pixpro_d2.utils.errors import UsageError

C5 = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.PIXPRO.IN_FEATURES", ["res5"])
C5 += ("MODEL.RESNETS.OUT_FEATURES", ["res5"])
REGNET = ("MODEL.BACKBONE.NAME", "build_regnet_backbone", "MODEL.PIXPRO.IN_FEATURES", ["s4"])
REGNET += ("MODEL.REGNETS.DEPTH", 13, "MODEL.REGNETS.W_A", 36.0)
REGNET_FPN = ("MODEL.BACKBONE.NAME", "build_regnet_fpn_backbone", "MODEL.REGNETS.OUT_FEATURES", ["s2", "s3", "s4"])
REGNET_FPN += ("MODEL.FPN.IN_FEATURES", ["s2", "s3", "s4"])


def build(*opts):
    torch.manual_seed(0)
    return build_model(configs.tiny(*opts)).train()


def make_batch(n=3, size=64, channels=3, seed=0):
    """Overlapping crops of 300 x 200 images, some flipped, the last image without any overlap."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform([0, 0], [80, 40], (n, 2, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(80, 120, (n, 2, 2))], axis=2)
    boxes[0, 1] = boxes[0, 1, [2, 1, 0, 3]]
    boxes[-1] = [[0, 0, 90, 90], [200, 100, 290, 190]]
    return {
        "views": torch.from_numpy(rng.integers(0, 256, (n, 2, channels, size, size), dtype=np.uint8)),
        "boxes": torch.from_numpy(boxes).float(),
        "image_sizes": torch.tensor([[200.0, 300.0]] * n),
    }


def losses_of(model, batch):
    with EventStorage() as storage:
        storage.iter = model.metrics_period - 1
        return model(batch), storage.latest()


@pytest.mark.parametrize(
    "opts, names",
    [
        (C5, ["res5"]),
        (C5 + ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256), ["res5"]),
        (C5[:2] + ("MODEL.PIXPRO.IN_FEATURES", ["res4"], "MODEL.RESNETS.OUT_FEATURES", ["res4"]), ["res4"]),
        ((), ["p3", "p4", "p5", "p6"]),
        (("MODEL.PIXPRO.IN_FEATURES", ["p3", "p5"]), ["p3", "p5"]),
        (("MODEL.RESNETS.DEPTH", 34, "MODEL.PIXPRO.SHARE_HEADS", False), ["p3", "p4", "p5", "p6"]),
        (REGNET, ["s4"]),
        (REGNET_FPN, ["p3", "p4", "p5", "p6"]),
    ],
    ids=["R18-C5", "R50-C5", "R18-C4", "R18-FPN", "FPN-subset", "R34-FPN-separate", "RegNet", "RegNet-FPN"],
)
def test_every_backbone_trains(opts, names):
    if opts is REGNET_FPN:
        names = [f"p{stride}" for stride in (3, 4, 5, 6)]
    model = build(*opts)
    losses, scalars = losses_of(model, make_batch())
    assert list(losses) == [f"loss_pix_{name}" for name in names]
    total = sum(losses.values())
    assert torch.isfinite(total) and abs(total) <= 4
    total.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert all("fpn_output4" in name for name in without) and bool(without) == (names == ["p3", "p5"])
    assert model.has_unused_parameters == (names == ["p3", "p5"])
    for name in names:
        assert 0 < scalars[f"feature_std/{name}"][0] < 1
        assert scalars[f"images_without_pair/{name}"][0] >= 1 / 3 - 1e-6  # the last image of the batch
        assert scalars[f"positive_pairs/{name}"][0] > 0


def test_a_single_vector_has_no_standard_deviation():
    """A batch of one image whose map has one pixel: NaN would be called broken features."""
    model = build(*C5, "MODEL.RESNETS.NORM", "GN", "MODEL.PIXPRO.NORM", "")  # batch norm needs two vectors too
    assert "feature_std/res5" not in losses_of(model, make_batch(n=1, size=32))[1]
    assert "feature_std/res5" in losses_of(model, make_batch(n=2, size=32))[1]


@pytest.mark.parametrize("size, grid", [(64, 2), (96, 3), (288, 9), (100, 4)])
def test_any_input_size_gives_its_grid(size, grid):
    model = build(*C5, "INPUT.PIXPRO.CROP_SIZE", size)
    losses_of(model, make_batch(size=size))[0]["loss_pix_res5"].backward()
    model.eval()
    features = model([{"image": torch.zeros(3, size, size)}])[0]
    assert features["res5"].shape == (512, grid, grid)


def test_single_channel_input():
    opts = ("MODEL.PIXEL_MEAN", [118.0], "MODEL.PIXEL_STD", [58.0], "INPUT.FORMAT", "L")
    losses, _ = losses_of(build(*C5, *opts), make_batch(channels=1))
    assert torch.isfinite(losses["loss_pix_res5"])


def test_eval_returns_the_features_of_each_image():
    model = build().eval()
    images = [torch.rand(3, 70, 50) * 255, torch.rand(3, 64, 96) * 255]
    outputs = model([{"image": image} for image in images])
    assert [list(x) for x in outputs] == [["p3", "p4", "p5", "p6"]] * 2
    padded = torch.zeros(2, 3, 96, 96)
    for i, image in enumerate(images):
        padded[i, :, : image.shape[1], : image.shape[2]] = (image - model.pixel_mean) / model.pixel_std
    expected = model.backbone(padded)
    torch.testing.assert_close(outputs[1]["p4"], expected["p4"][1])


@pytest.mark.parametrize(
    "opts, message",
    [
        (("MODEL.PIXPRO.IN_FEATURES", ["p7"]), "p7.*p3, p4, p5, p6"),
        (("MODEL.PIXPRO.IN_FEATURES", []), "IN_FEATURES is empty"),
        (("INPUT.PIXPRO.CROP_SIZE", 100), "CROP_SIZE is 100.*multiple of 32"),
        (("MODEL.PIXPRO.METHOD", "pixpr"), "METHOD is 'pixpr'.*pixpro, pixcontrast, densecl or slotcon"),
        (("MODEL.PIXPRO.MEAN_OVER", "some"), "MEAN_OVER"),
        (("MODEL.PIXPRO.DISTANCE_UNITS", "feet"), "DISTANCE_UNITS"),
        (("MODEL.PIXPRO.PPM.GAMMA", 0.0), "GAMMA"),
        (("MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.PIXPRO.INSTANCE.LOSS", "l2"), "INSTANCE.LOSS"),
        (
            C5[:2] + ("MODEL.PIXPRO.IN_FEATURES", ["res4", "res5"], "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"]),
            "different numbers of channels.*SHARE_HEADS False",
        ),
    ],
)
def test_mistakes_are_named(opts, message):
    with pytest.raises(UsageError, match=message):
        build(*opts)


def test_target_takes_part_in_no_gradient_and_keeps_its_own_statistics():
    model = build(*C5)
    # The first target pass sees the same views as the online branch, so compare after the weights differ.
    for p in model.target_backbone.parameters():
        p.mul_(1.1)
    sum(losses_of(model, make_batch())[0].values()).backward()
    for _, target in model.momentum_pairs():
        assert target.training and all(p.grad is None and not p.requires_grad for p in target.parameters())
    online, target = (b.stem.conv1.norm for b in (model.backbone, model.target_backbone))
    assert online.num_batches_tracked == target.num_batches_tracked == 2  # one forward pass for each view
    assert not torch.allclose(online.running_mean, target.running_mean)


@pytest.mark.parametrize("on", [False, True])
def test_zero_init_residual_by_key(on):
    model = build(*C5, "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", on)
    weight = model.backbone.res2[0].conv2.norm.weight
    assert torch.equal(weight, torch.zeros_like(weight) if on else torch.ones_like(weight))


def test_a_frozen_norm_does_not_start_at_0():
    model = build(*C5, "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", True)
    weight = model.backbone.res2[0].conv2.norm.weight
    assert torch.equal(weight, torch.ones_like(weight))


@pytest.mark.parametrize("kind", ["byol", "infonce"])
def test_instance_branch_on_c5_of_an_fpn(kind):
    model = build("MODEL.PIXPRO.INSTANCE.WEIGHT", 0.5, "MODEL.PIXPRO.INSTANCE.LOSS", kind)
    seen = []
    model.instance.projector.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    losses, _ = losses_of(model, make_batch())
    assert seen == [(3, 512, 2, 2)] * 2
    losses["loss_ins"].backward()
    # The last norm of a block starts at 0 and hides the convolutions before it from the first gradient.
    assert model.backbone.bottom_up.res5[1].conv2.norm.weight.grad.abs().sum() > 0
    assert model.instance.projector[0].weight.grad.abs().sum() > 0
    assert len(model.momentum_pairs()) == 3


def test_the_instance_contrast_is_float32_under_autocast():
    """Logits in bfloat16 have steps of 0.02 near a cosine of 1 and tau 0.2."""
    model = build("MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.PIXPRO.INSTANCE.LOSS", "infonce")
    seen = []
    whole = model.instance.direction_loss
    model.instance.direction_loss = lambda q, k: seen.append((q.detach(), k.detach())) or whole(q, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = losses_of(model, make_batch())[0]["loss_ins"]
    expected = sum(infonce_loss(q, k, 0, model.instance.temperature) for q, k in seen)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_pixcontrast_is_the_mean_of_both_directions():
    model = build(*C5, "MODEL.PIXPRO.METHOD", "pixcontrast", "MODEL.PIXPRO.PPM.ENABLED", False)
    batch = make_batch(size=96)
    reference = copy.deepcopy(model)
    loss = losses_of(model, batch)[0]["loss_pix_res5"]
    q, k = oracle_features(reference, batch)
    boxes = (batch["boxes"] / torch.tensor([300.0, 200.0, 300.0, 200.0])).unbind(1)
    directions = [
        oracle.pixcontrast_loss_slow(q[i], k[1 - i], boxes[i], boxes[1 - i], 0.7, 0.3) for i in (0, 1)
    ]  # fmt: skip
    torch.testing.assert_close(loss.double(), torch.as_tensor(sum(directions) / 2).double(), atol=1e-5, rtol=0)


def oracle_features(model, batch):
    """Queries and keys of both views, computed module by module."""
    q, k = [], []
    for view in batch["views"].unbind(1):
        images = (view.float() - model.pixel_mean) / model.pixel_std
        projection = model.projector["res5"](model.backbone(images)["res5"])
        q.append(F.normalize(model.ppm["res5"](projection) if model.ppm is not None else projection, dim=1))
        with torch.no_grad():
            k.append(F.normalize(model.target_projector["res5"](model.target_backbone(images)["res5"]), dim=1))
    return q, k


class SlowRun:
    """The method written straightforwardly on copies of a model's modules: PPM, losses, LARS and EMA by loops."""

    def __init__(self, model, lr, weight_decay, max_iter):
        model = copy.deepcopy(model)
        self.mean, self.std = model.pixel_mean, model.pixel_std
        self.backbone, self.projector = model.backbone, model.projector["res5"]
        self.value = model.ppm["res5"].value_transform
        self.target_backbone, self.target_projector = model.target_backbone, model.target_projector["res5"]
        self.online = [*self.backbone.parameters(), *self.projector.parameters()]
        self.target = [*self.target_backbone.parameters(), *self.target_projector.parameters()]
        self.params = [*self.online, *self.value.parameters()]
        self.buffers = [None] * len(self.params)
        self.lr, self.weight_decay, self.max_iter = lr, weight_decay, max_iter

    @torch.no_grad()
    def update_target(self, iteration):
        momentum = oracle.momentum_slow(iteration, self.max_iter, 0.99)
        for target, new in zip(self.target, oracle.ema_slow(self.online, self.target, momentum)):
            target.copy_(new)

    def step(self, iteration, batch):
        """One iteration in the official order: the target's update opens it. Returns the loss."""
        self.update_target(iteration)
        q, k = [], []
        for view in batch["views"].unbind(1):
            images = (view.float() - self.mean) / self.std
            x = self.projector(self.backbone(images)["res5"])
            q.append(F.normalize(oracle.ppm_slow(x, self.value(x), 2.0).float(), dim=1))
            with torch.no_grad():
                k.append(F.normalize(self.target_projector(self.target_backbone(images)["res5"]), dim=1))
        boxes = (batch["boxes"] / torch.tensor([300.0, 200.0, 300.0, 200.0])).unbind(1)
        loss = oracle.pixpro_loss_slow(q[0], k[1], boxes[0], boxes[1], 0.7)
        loss = loss + oracle.pixpro_loss_slow(q[1], k[0], boxes[1], boxes[0], 0.7)
        grads = torch.autograd.grad(loss, self.params)
        with torch.no_grad():
            stepped = [p.clone() for p in self.params]
            oracle.lars_step_slow(stepped, list(grads), self.buffers, self.lr, 0.9, self.weight_decay)
            for p, new in zip(self.params, stepped):
                p.copy_(new)
        return loss.item(), grads


@pytest.mark.parametrize(
    "iterations, moves, opts, warnings",
    [
        ([5, 6, 7], False, (), 1),
        ([5, 5, 6, 6], False, (), 1),  # with accumulation
        ([5, 5, 0], False, (), 0),  # detectron2's PreciseBN starts a storage of its own
        ([5, 6], True, (), 0),
        ([5, 6], False, ("MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.PIXPRO.IN_FEATURES", []), 1),
    ],
)
def test_a_target_that_no_hook_moves_is_reported_once(iterations, moves, opts, warnings, caplog):
    model, batch = build(*C5, *opts), make_batch()
    for iteration in iterations:
        with EventStorage(iteration):
            model(batch)
        if moves:
            model.move_target(0.9)
    assert [record.message.count("EMAHook") for record in caplog.records] == [1] * warnings


@pytest.mark.slow
def test_training_steps_equal_the_slow_oracle():
    """Two whole steps (loss, gradients, LARS, EMA) against loops; losses, gradients, weights, targets agree."""
    opts = ("SOLVER.BASE_LR", 0.5, "SOLVER.LR_SCALING", "none", "SOLVER.WEIGHT_DECAY", 1e-4)
    opts += ("SOLVER.BIAS_LR_FACTOR", 1.0, "MODEL.PIXPRO.MOMENTUM", 0.99, "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", True)
    cfg = configs.tiny(*C5, *opts, "INPUT.PIXPRO.CROP_SIZE", 96)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = build_optimizer(cfg, model)
    slow = SlowRun(model, lr=0.5, weight_decay=1e-4, max_iter=4)
    hook = EMAHook(model)
    hook.trainer = SimpleNamespace(iter=0, max_iter=4, storage=EventStorage())
    hook.before_train()
    for iteration in range(2):
        batch = make_batch(size=96, seed=iteration)
        hook.trainer.iter = iteration
        loss = losses_of(model, batch)[0]["loss_pix_res5"]
        optimizer.zero_grad()
        loss.backward()
        own = [*model.backbone.parameters(), *model.projector.parameters(), *model.ppm.parameters()]
        expected, grads = slow.step(iteration, batch)
        assert loss.item() == pytest.approx(expected, abs=1e-5)
        for p, grad in zip(own, grads):
            torch.testing.assert_close(p.grad, grad, atol=1e-5, rtol=1e-3)
        optimizer.step()
        hook.after_step()
        for p, theirs in zip(own, slow.params):
            torch.testing.assert_close(p, theirs, atol=1e-5, rtol=1e-4)
    slow.update_target(2)
    own = [*model.target_backbone.parameters(), *model.target_projector.parameters()]
    for p, theirs in zip(own, slow.target):
        torch.testing.assert_close(p, theirs, atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(p, q) for p, q in zip(slow.online, slow.target))
