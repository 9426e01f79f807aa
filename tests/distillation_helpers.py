"""A slow oracle of dense distillation, and small teachers."""

import numpy as np
import torch
from detectron2.modeling import build_backbone
from torch import nn

import configs
from pixpro_d2.modeling.pretrain.teacher import InputConversion, InputNormalization, Teacher

PLAIN = InputNormalization("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Averages(nn.Module):
    """A map of stride 8 with 4 channels: means of the colours and of their product; counts its calls."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.norm = nn.BatchNorm2d(4)  # a mistake in its mode would change its statistics
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        x = torch.cat((images, images[:, :1] * images[:, 1:2]), dim=1)
        return self.gain * self.norm(nn.functional.avg_pool2d(x.float(), 8))


def teacher(network=None):
    """A teacher that takes images as they are."""
    return Teacher(network or Averages(), InputConversion(PLAIN, PLAIN), 4)


def save_script(path, channels=5, stride=8, in_channels=3, seed=0):
    """A TorchScript file of a convolution."""
    torch.manual_seed(seed)
    torch.jit.script(nn.Conv2d(in_channels, channels, stride, stride)).save(str(path))
    return str(path)


def save_run(folder):
    """The folder of a run with a narrow ResNet, as far as a teacher needs it; returns its path."""
    cfg = configs.tiny(*configs.C5, *configs.NARROW, "MODEL.RESNETS.DEPTH", 50)
    torch.manual_seed(0)
    weights = {f"backbone.{name}": value for name, value in build_backbone(cfg).state_dict().items()}
    folder.mkdir()
    torch.save({"model": weights}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return str(folder)


def slow_loss(projections, maps, boxes, view="other", loss="cosine"):
    """The loss of one level, unweighted, by loops over single bins.

    Args:
        projections: arrays (N, C, H, W) of the student, of both views.
        maps: arrays (N, C, h, w) of the teacher, of both views.
        boxes: arrays (N, 4) of both views, signed.
    """
    pixels = np.concatenate([np.moveaxis(x, 1, 3).reshape(-1, x.shape[1]) for x in maps])
    maps = [(x - pixels.mean(0)[:, None, None]) / pixels.std(0)[:, None, None] for x in maps]
    directions = []
    for q in (0, 1):
        k = 1 - q if view == "other" else q
        images = []
        for n in range(len(projections[q])):
            bins = []
            height, width = projections[q].shape[2:]
            for i in range(height):
                for j in range(width):
                    x = _place(boxes[q][n][0], boxes[q][n][2], boxes[k][n][0], boxes[k][n][2], (j + 0.5) / width)
                    y = _place(boxes[q][n][1], boxes[q][n][3], boxes[k][n][1], boxes[k][n][3], (i + 0.5) / height)
                    if 0 <= x <= 1 and 0 <= y <= 1:
                        wanted = _bilinear(_pooled(maps[k][n], height, width), y, x)
                        bins.append(_distance(projections[q][n, :, i, j], wanted, loss))
            if bins:
                images.append(np.mean(bins))
        directions.append(np.mean(images) if images else 0.0)
    return np.mean(directions)


def _place(start_q, end_q, start_k, end_k, share):
    in_image = start_q + share * (end_q - start_q)
    return (in_image - start_k) / (end_k - start_k)


def _pooled(features, height, width):
    """The mean of each block of cells; blocks are as large as divides the map and leaves a cell for each bin."""
    rows, columns = features.shape[1:]
    down = max(f for f in range(1, rows + 1) if rows % f == 0 and (f == 1 or f * height <= rows))
    across = max(f for f in range(1, columns + 1) if columns % f == 0 and (f == 1 or f * width <= columns))
    blocks = [
        [features[:, i : i + down, j : j + across].mean(axis=(1, 2)) for j in range(0, columns, across)]
        for i in range(0, rows, down)
    ]
    return np.moveaxis(np.array(blocks), 2, 0)


def _bilinear(features, y, x):
    rows, columns = features.shape[1:]
    y, x = np.clip(y * rows - 0.5, 0, rows - 1), np.clip(x * columns - 0.5, 0, columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    above = features[:, top, left] * (1 - x + left) + features[:, top, right] * (x - left)
    below = features[:, bottom, left] * (1 - x + left) + features[:, bottom, right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def _distance(student, wanted, loss):
    if loss == "cosine":
        return 1 - student @ wanted / np.linalg.norm(student) / np.linalg.norm(wanted)
    gap = np.abs(student - wanted)
    return np.where(gap < 1, gap**2 / 2, gap - 0.5).mean()
