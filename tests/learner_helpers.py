"""Small networks for the tests of the learner, and the body of its distributed test."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pixpro_d2 import PixelLearner

SMALL = dict(image_size=32, hidden_dim=16, out_dim=8)


class SmallNet(nn.Module):
    """Convolutions of stride 2 and 4 with batch norms, pooling and a classifier; layers that never run, too."""

    def __init__(self, in_channels=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)
        self.idle = nn.Conv2d(12, 12, 1)

    def forward(self, x):
        return self.fc(self.pool(self.body(self.stem(x))).flatten(1))


class Tokens(nn.Module):
    """Tokens (N, skipped + patches, 3): zeros, then the mean colour of each patch, row by row."""

    def __init__(self, patch, skipped=1):
        super().__init__()
        self.patch, self.skipped = patch, skipped
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x):
        patches = nn.functional.avg_pool2d(x, self.patch).flatten(2).transpose(1, 2) * self.gain
        return torch.cat((patches.new_zeros(len(x), self.skipped, 3), patches), dim=1)


def small_net(in_channels=3, seed=0):
    torch.manual_seed(seed)
    return SmallNet(in_channels)


def small_learner(*layers, **options):
    """PixelLearner on a :class:`SmallNet`, on its ``body`` by default."""
    net = small_net(options.get("in_channels", 3))
    return PixelLearner(net, list(layers) or "body", **{**SMALL, **options})


def images(n=4, channels=3, size=(40, 48), seed=0):
    return torch.rand(n, channels, *size, generator=seeded(seed))


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def train_distributed(rank, world_size, meeting, freeze, path):
    """Body of one of ``world_size`` processes: three steps under DistributedDataParallel, and what came of them.

    The crops of the second process never overlap: its pixel loss is 0 and still has a gradient.
    """
    torch.set_num_threads(1)
    group = {"init_method": f"file://{meeting}", "rank": rank, "world_size": world_size}
    torch.distributed.init_process_group("gloo", **group)
    try:
        learner = small_learner(instance_weight=1.0, method="pixcontrast", pos_ratio=0.7 if rank == 0 else 0.0)
        if freeze:
            learner.freeze_unused()
        model = DistributedDataParallel(learner, find_unused_parameters=not freeze)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        torch.manual_seed(rank)
        pairs = []
        for step in range(3):
            loss, info = model(images(2, seed=10 * step + rank))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            learner.update_target(step)
            pairs.append(info["positive_pairs/body"].item())
        torch.save({"model": {k: v.detach() for k, v in learner.named_parameters()}, "pairs": pairs}, path)
    finally:
        torch.distributed.destroy_process_group()
