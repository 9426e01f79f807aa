"""Every pre-training config, with the sizes made small, trains for an iteration."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import configs

PRETRAIN = sorted((configs.CONFIGS / "pretrain").glob("**/*.yaml"))
SMALL = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 64]


@pytest.mark.parametrize(
    "path", [p for p in PRETRAIN if "Base" not in p.name], ids=lambda path: f"{path.parent.stem}/{path.stem}"
)
def test_one_iteration(path):
    torch.manual_seed(0)
    model = build_model(configs.tiny(*SMALL, config=str(path.relative_to(configs.CONFIGS))))
    views = torch.randint(0, 256, (4, 2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20, 200, 180], [190, 30, 20, 200]]).expand(4, 2, 4)
    before = [p.clone() for p in model.parameters()]
    with EventStorage(0):
        losses = model({"views": views, "boxes": boxes, "image_sizes": torch.tensor([[220, 240]] * 4)})
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.1).step()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(without) == model.has_unused_parameters
    moved = sum(not torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert moved > 20
