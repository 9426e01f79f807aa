"""PixelCL's interface: its README's example, its numbers restated, and the package itself where it is installed."""

import copy
import math
import random

import pytest
import torch
import torch.nn.functional as F
from learner_helpers import images, small_net
from torch import nn
from torchvision.models import resnet18

from pixpro_d2.compat import PixelCL, draw_crop
from pixpro_d2.utils.errors import UsageError

SMALL = dict(image_size=32, hidden_layer_pixel="body", hidden_layer_instance="pool")
SMALL.update(projection_size=8, projection_hidden_size=16)


def small(**options):
    return PixelCL(small_net(), **{**SMALL, **options})


def plain(**options):
    """Without photometric augmentation, so that Python's ``random`` decides everything."""
    return small(augment_fn=nn.Identity(), **options)


def call(learner, x, seed=0, **kwargs):
    random.seed(seed)
    return learner(x, **kwargs)


def test_the_example_of_pixelcls_readme(tmp_path):
    torch.manual_seed(0)
    resnet = resnet18(weights=None)
    learner = PixelCL(
        resnet,
        image_size=96,
        hidden_layer_pixel="layer4",
        hidden_layer_instance=-2,
        projection_size=256,
        projection_hidden_size=2048,
        moving_average_decay=0.99,
        ppm_num_layers=1,
        ppm_gamma=2,
        distance_thres=0.7,
        similarity_temperature=0.3,
        alpha=1.0,
        use_pixpro=True,
        cutout_ratio_range=(0.6, 0.8),
    )
    opt = torch.optim.Adam(learner.parameters(), lr=1e-4)
    before = copy.deepcopy(resnet.state_dict())
    for _ in range(3):
        loss = learner(torch.randn(4, 3, 96, 96))
        assert loss.dim() == 0 and -1 <= loss.item() <= 9
        opt.zero_grad()
        loss.backward()
        opt.step()
        learner.update_moving_average()
    loss, positive_pairs = learner(torch.randn(4, 3, 96, 96), return_positive_pairs=True)
    assert positive_pairs.dtype == torch.int64 and positive_pairs.dim() == 0 and 0 < positive_pairs <= 81
    torch.save(resnet.state_dict(), tmp_path / "pretrained-net.pt")
    weights = torch.load(tmp_path / "pretrained-net.pt")
    assert list(weights) == list(before)
    assert not torch.equal(weights["layer4.0.conv1.weight"], before["layer4.0.conv1.weight"])
    assert torch.equal(weights["fc.weight"], before["fc.weight"])


def coordinates(crop, flip, size, grid):
    """Bin centres (x, y) of a crop, row by row, in pixels over the image's diagonal, times the grid."""
    (x0, y0, x1, y1), diagonal = crop, math.hypot(*size)
    columns = [x0 + (j + 0.5) * (x1 - x0) / grid[1] for j in range(grid[1])]
    rows = [y0 + (i + 0.5) * (y1 - y0) / grid[0] for i in range(grid[0])]
    columns = columns[::-1] if flip else columns
    return [(x / diagonal * grid[1], y / diagonal * grid[0]) for y in rows for x in columns]


def expected_loss(learner, x, seed, flip_p, alpha, thres, use_pixpro, tau=0.3):
    """PixelCL's loss and number of pairs, restated with loops over pixels; for a learner without norms."""
    random.seed(seed)
    size = tuple(x.shape[-2:])
    flips = [random.random() < flip_p for _ in range(2)]
    crops = [draw_crop(size, (0.6, 0.8)) for _ in range(2)]
    q, k, p, t, places = [], [], [], [], []
    for flip, crop in zip(flips, crops):
        view = F.interpolate(x[:, :, crop[1] : crop[3], crop[0] : crop[2]], size, mode="nearest")
        view = view.flip(-1) if flip else view
        feature = learner.online_encoder.net.body(view)
        projection = learner.projector["body"](feature)
        places.append(coordinates(crop, flip, size, feature.shape[-2:]))
        pixels = projection.flatten(2)
        k.append(F.normalize(pixels, dim=1))
        if use_pixpro:
            transformed = learner.propagate_pixels.value_transform(projection).flatten(2)
            cosine = (k[-1].transpose(1, 2) @ k[-1]).clamp(min=0)
            pixels = torch.einsum("nij,ncj->nci", cosine**2, transformed)
        q.append(F.normalize(pixels, dim=1))
        vector = feature.mean(dim=(2, 3), keepdim=True)
        t.append(F.normalize(learner.instance.projector(vector).flatten(1), dim=1))
        p.append(F.normalize(learner.online_predictor(learner.instance.projector(vector)).flatten(1), dim=1))
    pairs = [
        (i, j) for i, a in enumerate(places[0]) for j, b in enumerate(places[1]) if math.dist(a, b) < thres
    ]  # fmt: skip
    instance = sum((2 - 2 * (p[i] * t[1 - i]).sum(dim=1)).mean() for i in range(2))
    total = 0
    for direction in range(2):
        cosine = q[direction].transpose(1, 2) @ k[1 - direction]  # (N, L, L)
        mine = [pair if direction == 0 else pair[::-1] for pair in pairs]
        chosen = torch.stack([cosine[:, i, j] for i, j in mine])
        total = total - (
            chosen.mean() if use_pixpro else ((chosen / tau).exp().sum() / (cosine / tau).exp().sum()).log()
        )
    return (alpha * total / 2 + instance).item(), len(pairs)


class NoNorm(nn.Module):
    """A network without norms, so that calls leave nothing behind."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Conv2d(3, 6, 8, 8)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.pool(self.body(x))


@pytest.mark.parametrize("use_pixpro", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
def test_loss_and_pairs_restated(use_pixpro, size):
    learner = PixelCL(
        NoNorm(), image_size=32, hidden_layer_pixel=0, hidden_layer_instance=1, projection_size=8,
        projection_hidden_size=16, augment_fn=nn.Identity(), prob_rand_hflip=0.5, distance_thres=0.9, alpha=3.0,
        use_pixpro=use_pixpro,
    ).eval()  # fmt: skip
    counts = set()
    for seed in range(6):
        x = images(3, size=size, seed=seed)
        loss, pairs = call(learner, x, seed, return_positive_pairs=True)
        expected, count = expected_loss(learner, x, seed, 0.5, 3.0, 0.9, use_pixpro)
        assert pairs.item() == count and loss.item() == pytest.approx(expected, abs=1e-5)
        counts.add(count)
    assert len(counts) > 1


def test_crops():
    random.seed(0)
    crops = [draw_crop((100, 200), (0.6, 0.8)) for _ in range(500)]
    assert all(x0 >= 0 and x1 <= 200 and y0 >= 0 and y1 <= 100 for x0, y0, x1, y1 in crops)
    sides = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in crops]
    assert min(sides)[0] in range(120, 124) and max(sides)[0] in range(156, 161)
    assert all(abs(w - 2 * h) <= 1 for w, h in sides)
    assert draw_crop((100, 200), (1.0, 1.0)) == (0, 0, 200, 100)


def test_nothing_matches():
    for use_pixpro in (True, False):
        learner = plain(distance_thres=0, use_pixpro=use_pixpro)
        loss, pairs = call(learner, images(), return_positive_pairs=True)
        weightless = plain(alpha=0.0, use_pixpro=use_pixpro)
        assert pairs == 0 and loss.item() == pytest.approx(call(weightless, images()).item(), abs=1e-6)
        loss.backward()


def test_moving_average():
    learner = plain(moving_average_decay=0.75)
    online, target = learner.online_encoder.net.stem[0].weight, learner.target_encoder.net.stem[0].weight
    with torch.no_grad():
        online.add_(1.0)
    before = target.clone()
    learner.update_moving_average()
    torch.testing.assert_close(target.detach(), before + 0.25)
    learner.reset_moving_average()
    assert torch.equal(target, online) and not target.requires_grad


def test_alpha_weighs_the_pixel_loss():
    losses = [call(plain(alpha=alpha), images()).item() for alpha in (0.0, 1.0, 2.0)]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], abs=1e-5) and losses[1] != losses[0]


def test_flips_and_second_augmentation():
    seen = []

    def record(name):
        return lambda x: seen.append((name, x)) or x

    ramp = torch.linspace(0, 1, 32).expand(2, 3, 32, 32)
    call(small(augment_fn=record(1), augment_fn2=record(2), prob_rand_hflip=1.0), ramp)
    call(small(augment_fn=record(3), prob_rand_hflip=0.0), ramp)
    assert [name for name, _ in seen] == [1, 2, 3, 3]
    for name, view in seen:
        rises = view[0, 0, 0, -1] > view[0, 0, 0, 0]
        assert rises == (name == 3) and view.shape == ramp.shape


@pytest.mark.parametrize("channels, batch", [(3, 1), (1, 4), (1, 1)])
def test_one_image_and_one_channel(channels, batch):
    learner = PixelCL(small_net(channels), **SMALL)
    loss = learner(images(batch, channels))
    loss.backward()
    assert torch.isfinite(loss)


def test_the_networks_norms_notice_nothing():
    net = small_net()
    before = copy.deepcopy(net.state_dict())
    PixelCL(net, **SMALL)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(hidden_layer_pixel=-3), "Layer 'pool' gives a feature map of 1 x 1"),
        (dict(hidden_layer_pixel="layer4"), "no layer 'layer4'"),
        (dict(hidden_layer_instance="idle"), "'idle' was not run"),
        (dict(ppm_num_layers=3), "ppm_num_layers is '3'; it must be 0, 1 or 2"),
        (dict(coord_cutout_interpolate_mode="nearest"), "coord_cutout_interpolate_mode is 'nearest'"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        small(**options)


def _copy_weights(theirs, ours):
    """Give ours the weights of the package's learner, and both targets those of the online branch."""
    theirs.target_encoder.load_state_dict(theirs.online_encoder.state_dict())
    encoder = theirs.online_encoder
    twins = [
        (ours.online_encoder.net, encoder.net),
        (ours.projector, encoder.pixel_projector),
        (ours.instance.projector, encoder.instance_projector),
        (ours.online_predictor, theirs.online_predictor),
    ]
    if theirs.use_pixpro:
        twins.append((ours.propagate_pixels, theirs.propagate_pixels))
    for mine, other in twins:
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            a.data.copy_(b.data.view_as(a))
    ours.reset_moving_average()


@pytest.mark.parametrize(
    "options",
    [{}, dict(use_pixpro=False), dict(ppm_num_layers=2, ppm_gamma=1), dict(distance_thres=0), dict(alpha=3.0)],
)
def test_same_numbers_as_the_package(options):
    package = pytest.importorskip("pixel_level_contrastive_learning")
    options = {**SMALL, "augment_fn": nn.Identity(), **options}
    theirs, ours = package.PixelCL(small_net(), **options), PixelCL(small_net(), **options)
    _copy_weights(theirs, ours)
    optimizers = [torch.optim.SGD(learner.parameters(), lr=0.1) for learner in (theirs, ours)]
    for step in range(3):
        x = images(seed=step, size=(32, 32) if step else (32, 48))
        results = []
        for learner, optimizer in zip((theirs, ours), optimizers):
            loss, pairs = call(learner, x, step, return_positive_pairs=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            learner.update_moving_average()
            results.append((loss.item(), int(pairs)))
        assert results[1][0] == pytest.approx(results[0][0], abs=1e-4) and results[1][1] == results[0][1]
