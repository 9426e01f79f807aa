"""Inputs of SlotCon's numeric cases: two images, 3 x 3 cells, 4 channels, 5 prototypes."""

import torch
from torch import nn

from pixpro_d2.modeling.pretrain.methods import LevelView, SlotConMethod
from pixpro_d2.modeling.pretrain.slot_heads import SlotPredictor
from pixpro_d2.modeling.pretrain.unit import unit
from pixpro_d2.modeling.pretrain.view_overlap import ViewOverlap

P = (1.3 * torch.arange(20, dtype=torch.float64) + 0.5).sin().view(5, 4)
Q = (0.9 * torch.arange(20, dtype=torch.float64) + 0.2).cos().view(5, 4)
C0 = 0.02 * torch.arange(5, dtype=torch.float64).cos()
OVERLAPS = (
    ViewOverlap(torch.tensor([[0.25, 0, 1, 0.75], [0, 0.5, 0.5, 1]]), torch.tensor([False, True])),
    ViewOverlap(torch.tensor([[0, 0.125, 0.625, 1], [0.2, 0.1, 0.9, 0.8]]), torch.tensor([True, False])),
)


def features(n=2):
    """X and Y, (n, 4, 3, 3) float64."""
    a = torch.arange(n * 36, dtype=torch.float64).view(n, 4, 3, 3)
    return a.sin(), (0.7 * a).cos()


def whole(n):
    """Overlap of equal crops."""
    return ViewOverlap(torch.tensor([[0.0, 0, 1, 1]] * n), torch.zeros(n, dtype=torch.bool))


class Alike(nn.Module):
    """A predictor that changes nothing."""

    def forward(self, slots, counted):
        return slots


def head(norm="BN"):
    """The predictor 4-6-6-4 of the cases."""
    predictor = SlotPredictor(4, 6, norm)
    with torch.no_grad():
        for t, layer in enumerate((predictor.first, predictor.second, predictor.last)):
            layer.weight.copy_(0.5 * (torch.arange(layer.weight.numel()) + t).sin().view_as(layer.weight))
            layer.bias.copy_(0.1 * (torch.arange(len(layer.bias)) + t).cos())
    return predictor


def method(predictor=None, center=None, **options):
    """A SlotConMethod of one level "c5" with the prototypes of the cases, one cell enough for a slot."""
    made = SlotConMethod(["c5"], 4, 5, predictor or Alike(), **{"min_share": 0.0, **options})
    with torch.no_grad():
        made.prototypes.weight.copy_(P)
        made.target_prototypes.weight.copy_(Q)
        if center is not None:
            made.centers["c5"].mean.copy_(center)
    return made


def view(online, target, overlap):
    """A LevelView of projections (N, C, H, W) by both branches."""
    online, target = online.float(), target.float()
    return LevelView(unit(online), unit(target), online, target, online, target, overlap)


def views(n=2, overlaps=None):
    """X and Y as both views, the same for both branches."""
    first, second = overlaps or (whole(n), whole(n))
    x, y = features(n)
    return view(x, x, first), view(y, y, second)


def close(value, expected, atol=1e-5):
    """Compare with numbers, or with "1 2 / 3 4"."""
    if isinstance(expected, str):
        expected = torch.tensor([[float(x) for x in row.split()] for row in expected.split("/")])
    value = torch.as_tensor(value).detach().float()
    torch.testing.assert_close(value, torch.as_tensor(expected).float().reshape(value.shape), atol=atol, rtol=0)
