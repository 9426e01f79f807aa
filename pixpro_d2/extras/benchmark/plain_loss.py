"""Implement PixPro's loss and pixel propagation with a dense mask and full matrices of pixels, as their yardstick."""

import torch
import torch.nn.functional as F

from ...modeling.pretrain.ppm import PixelPropagation


def regression_loss(
    q: torch.Tensor, k: torch.Tensor, boxes_q: torch.Tensor, boxes_k: torch.Tensor, pos_ratio: float
) -> torch.Tensor:
    """Return the loss of one direction, 0-d; q, k (N, C, H, W) unit, boxes (N, 4) signed."""
    n, _, height, width = q.shape
    x = torch.arange(0.0, width, device=q.device).view(1, 1, -1).repeat(n, height, 1)
    y = torch.arange(0.0, height, device=q.device).view(1, -1, 1).repeat(n, 1, width)
    centers, diagonals = [], []
    for boxes in (boxes_q, boxes_k):
        x0, y0, x1, y1 = boxes.view(n, 4, 1, 1).unbind(1)
        bin_width, bin_height = (x1 - x0) / width, (y1 - y0) / height
        centers.append((((x + 0.5) * bin_width + x0).flatten(1), ((y + 0.5) * bin_height + y0).flatten(1)))
        diagonals.append(torch.sqrt(bin_width**2 + bin_height**2).view(n, 1, 1))
    (x_q, y_q), (x_k, y_k) = centers
    distances = torch.sqrt((x_q[:, :, None] - x_k[:, None]) ** 2 + (y_q[:, :, None] - y_k[:, None]) ** 2)
    mask = (distances / torch.max(*diagonals) < pos_ratio).float()
    similarity = torch.bmm(q.flatten(2).transpose(1, 2), k.flatten(2))
    loss = (similarity * mask).sum(dim=(1, 2)) / (mask.sum(dim=(1, 2)) + 1e-6)
    return -2 * loss.mean()


def propagate(x: torch.Tensor, ppm: PixelPropagation) -> torch.Tensor:
    """Propagate pixels (N, C, H, W) with a `ppm.PixelPropagation`'s transform."""
    values = F.normalize(ppm.value_transform(x), dim=1).flatten(2)
    unit = F.normalize(x, dim=1).flatten(2)
    attention = torch.bmm(unit.transpose(1, 2), unit).clamp(min=0)
    if ppm.gamma < 1:
        attention = attention + 1e-6
    return torch.bmm(values, attention**ppm.gamma).view_as(x)
