"""Slow, obvious re-statements of the formulas of PixPro, written as loops.

Nothing here calls into pixpro_d2: the tests compare the package with these functions. Geometry is done in
Python floats and features in float64 tensors, so that gradients can be taken through the losses by autograd.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812

# Boxes (x0, y0, x1, y1) of one view relative to another that is IDENTICAL: the geometries that tests share.
IDENTICAL = [0.0, 0.0, 1.0, 1.0]
FLIPPED = [1.0, 0.0, 0.0, 1.0]
HALF = [0.5, 0.0, 1.5, 1.0]
ZOOM = [0.0, 0.0, 0.5, 0.5]
DISJOINT = ([0.0, 0.0, 0.4, 0.4], [0.6, 0.6, 1.0, 1.0])
TOUCHING = ([0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0])
# One wide grid, and two images of which the second has a flipped key view.
OBLONG = ([[0.1, 0.2, 0.8, 0.9]], [[0.2, 0.1, 0.9, 0.8]])
TWO_IMAGES = ([[0.0, 0.0, 0.6, 0.6], [0.1, 0.1, 0.9, 0.8]], [[0.3, 0.2, 1.0, 0.9], [0.8, 0.3, 0.2, 1.0]])


def features(n, c, h, w):
    """Query and key features for the numeric cases, (n, c, h, w) float32, L2-normalised over the channels."""
    steps = torch.arange(n * c * h * w, dtype=torch.float32).view(n, c, h, w)
    return F.normalize(steps.sin(), dim=1), F.normalize((0.7 * steps).cos(), dim=1)


def crop_to_coordinates(top, left, height, width, image_height, image_width, flip=False, official=False):
    """Coordinates (x0, y0, x1, y1) of a crop relative to its image; a flipped crop has x0 > x1.

    ``official``: inclusive last pixel over (size - 1), as RandomResizedCropCoord in the official PixPro code
    does; otherwise continuous pixel edges over size. A horizontal flip swaps x0 and x1
    (RandomHorizontalFlipCoord).
    """
    if official:
        x0, x1 = left / (image_width - 1), (left + width - 1) / (image_width - 1)
        y0, y1 = top / (image_height - 1), (top + height - 1) / (image_height - 1)
    else:
        x0, x1 = left / image_width, (left + width) / image_width
        y0, y1 = top / image_height, (top + height) / image_height
    return [x1, y0, x0, y1] if flip else [x0, y0, x1, y1]


def bin_size_slow(box, grid):
    """Signed width and height of one bin (official regression_loss: q_bin_width, q_bin_height)."""
    x0, y0, x1, y1 = (float(v) for v in box)
    return (x1 - x0) / grid[1], (y1 - y0) / grid[0]


def bin_diagonal_slow(box, grid):
    """Length of a bin's diagonal (official regression_loss: q_bin_diag)."""
    bin_w, bin_h = bin_size_slow(box, grid)
    return math.sqrt(bin_w**2 + bin_h**2)


def bin_centers_slow(box, grid):
    """List of the (x, y) centres of the bins, row by row (official regression_loss: center_q_x and _y)."""
    bin_w, bin_h = bin_size_slow(box, grid)
    centers = []
    for row in range(grid[0]):
        for col in range(grid[1]):
            centers.append((float(box[0]) + (col + 0.5) * bin_w, float(box[1]) + (row + 0.5) * bin_h))
    return centers


def distances_slow(box_q, box_k, grid_q, grid_k):
    """Distance of each query bin to each key bin in units of the larger bin diagonal, float64 (HWq, HWk).

    Paper Eq. 1; that the larger diagonal counts is in the official code (max_bin_diag).
    """
    unit = max(bin_diagonal_slow(box_q, grid_q), bin_diagonal_slow(box_k, grid_k))
    centers_k = bin_centers_slow(box_k, grid_k)
    rows = []
    for xq, yq in bin_centers_slow(box_q, grid_q):
        row = []
        for xk, yk in centers_k:
            row.append(math.sqrt((xq - xk) ** 2 + (yq - yk) ** 2) / unit)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def positive_mask_slow(box_q, box_k, grid_q, grid_k, ratio):
    """Which query bin i and key bin j of one image match, bool (HWq, HWk).

    Paper Eq. 1 says <= ratio; the official code (pos_mask) is strict, which this follows.
    """
    distances = distances_slow(box_q, box_k, grid_q, grid_k)
    mask = torch.zeros(distances.shape, dtype=torch.bool)
    for i in range(distances.shape[0]):
        for j in range(distances.shape[1]):
            mask[i, j] = distances[i, j].item() < ratio
    return mask


def masks_slow(boxes_q, boxes_k, grid_q, grid_k, ratio):
    """The masks of a batch, bool (N, HWq, HWk)."""
    masks = []
    for box_q, box_k in zip(boxes_q, boxes_k, strict=True):
        masks.append(positive_mask_slow(box_q, box_k, grid_q, grid_k, ratio))
    return torch.stack(masks)


def cosines_slow(q, k):
    """Products of all pixels of q (C, H, W) with all pixels of k (C, H, W), a list of rows of 0-d tensors."""
    rows = []
    for yq in range(q.shape[1]):
        for xq in range(q.shape[2]):
            row = []
            for yk in range(k.shape[1]):
                for xk in range(k.shape[2]):
                    row.append((q[:, yq, xq].double() * k[:, yk, xk].double()).sum())
            rows.append(row)
    return rows


def pixpro_loss_from_masks_slow(q, k, masks, mean_over="all"):
    """One direction of the PixPro loss, given masks (N, HWq, HWk).

    The mean cosine of the positive pairs of an image, times -2 as in the official regression_loss.
    "all" averages over all images, those without a positive pair counting as 0 (official code); "matched"
    averages over the images with a positive pair.
    """
    per_image = []
    for n in range(q.shape[0]):
        cosines = cosines_slow(q[n], k[n])
        total, count = (q[n] * 0).sum().double(), 0
        for i in range(masks.shape[1]):
            for j in range(masks.shape[2]):
                if masks[n, i, j]:
                    total = total + cosines[i][j]
                    count += 1
        if count > 0 or mean_over == "all":
            per_image.append(total / (count + 1e-6))
    if not per_image:
        return (q * 0).sum().double()
    return -2 * sum(per_image) / len(per_image)


def pixpro_loss_slow(q, k, box_q, box_k, ratio, mean_over="all"):
    """One direction of the PixPro loss (official regression_loss); q, k (N, C, H, W), normalised; N boxes."""
    masks = masks_slow(box_q, box_k, tuple(q.shape[2:]), tuple(k.shape[2:]), ratio)
    return pixpro_loss_from_masks_slow(q, k, masks, mean_over)


def pixcontrast_loss_slow(q, k, box_q, box_k, ratio, tau):
    """One direction of the PixContrast loss, paper Eq. 2; the negatives are pixels of the same image's key.

    Averaged over the query pixels that have a positive, then over the images that have such a pixel; 0 if
    there is none.
    """
    masks = masks_slow(box_q, box_k, tuple(q.shape[2:]), tuple(k.shape[2:]), ratio)
    per_image = []
    for n in range(q.shape[0]):
        cosines = cosines_slow(q[n], k[n])
        per_pixel = []
        for i in range(masks.shape[1]):
            positive, everything = 0.0, 0.0
            for j in range(masks.shape[2]):
                term = torch.exp(cosines[i][j] / tau)
                everything = everything + term
                if masks[n, i, j]:
                    positive = positive + term
            if masks[n, i].any():
                per_pixel.append(-torch.log(positive / everything))
        if per_pixel:
            per_image.append(sum(per_pixel) / len(per_pixel))
    if not per_image:
        return (q * 0).sum().double()
    return sum(per_image) / len(per_image)


def unit_slow(vector):
    """The vector over its length, with the lower bound on the length that F.normalize has."""
    return vector / torch.sqrt((vector * vector).sum()).clamp(min=1e-12)


def byol_loss_slow(p, k):
    """One direction of the instance loss on vectors (N, C): -2 times the mean cosine (official PixPro)."""
    total = 0.0
    for n in range(p.shape[0]):
        total = total + (p[n].double() * k[n].double()).sum()
    return -2 * total / p.shape[0]


def ppm_slow(x, value, gamma):
    """Pixel propagation of x (N, C, H, W) with its transformed features ``value``: paper Eq. 3, featprop.

    As in the official code, and unlike the paper, the transformed features are L2-normalised; the affinity of
    a pixel with itself is included and nothing divides by the sum of the affinities.
    """
    pixels = [(r, c) for r in range(x.shape[2]) for c in range(x.shape[3])]
    images = []
    for n in range(x.shape[0]):
        outputs = []
        for ri, ci in pixels:
            output = torch.zeros(x.shape[1], dtype=torch.float64)
            for rj, cj in pixels:
                cosine = (unit_slow(x[n, :, ri, ci].double()) * unit_slow(x[n, :, rj, cj].double())).sum()
                affinity = cosine.clamp(min=0)
                if gamma < 1:
                    affinity = affinity + 1e-6  # official code: the gradient of the power is infinite at 0
                output = output + affinity**gamma * unit_slow(value[n, :, rj, cj].double())
            outputs.append(output)
        images.append(torch.stack(outputs, dim=1).reshape(x.shape[1], x.shape[2], x.shape[3]))
    return torch.stack(images)


def ema_slow(online_params, target_params, m):
    """New target parameters m * target + (1 - m) * online (official _momentum_update_key_encoder)."""
    updated = []
    for online, target in zip(online_params, target_params, strict=True):
        new = m * target.detach().double() + (1 - m) * online.detach().double()
        updated.append(new.to(target.dtype))
    return updated


def momentum_slow(k, K, m0=0.99):  # noqa: N803
    """Momentum at update k of K (official _momentum_update_key_encoder)."""
    return 1 - (1 - m0) * (math.cos(math.pi * k / K) + 1) / 2


def lars_step_slow(params, grads, buffers, lr, momentum, weight_decay, trust=0.001, eps=1e-8):
    """One step of the official LARS wrapper around SGD, in place on the lists ``params`` and ``buffers``.

    1-D tensors (biases and normalisation parameters) get no weight decay and no adaptation (official
    add_weight_decay). A gradient of None skips its tensor; buffers start as None.
    """
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if grad is None:
            continue
        update = grad.clone()
        if param.ndim != 1:
            if weight_decay > 0:
                update = update + weight_decay * param
            param_norm = math.sqrt(sum(v * v for v in param.flatten().tolist()))
            update_norm = math.sqrt(sum(v * v for v in update.flatten().tolist()))
            if param_norm > 0 and update_norm > 0:
                update = update * (trust * param_norm / (update_norm + eps))
        if buffers[index] is None:
            buffers[index] = update.clone()
        else:
            buffers[index] = momentum * buffers[index] + update
        params[index] = param - lr * buffers[index]


def lr_slow(i, base, warmup_iters, total_iters, multiplier=100, eta=1e-6):
    """Learning rate of iteration i: linear warm-up from base / multiplier, then a cosine down to eta.

    The official code has GradualWarmupScheduler around CosineAnnealingLR.
    """
    if warmup_iters > 0 and i <= warmup_iters:
        return base / multiplier * ((multiplier - 1) * i / warmup_iters + 1)
    progress = (i - warmup_iters) / (total_iters - warmup_iters)
    return eta + (base - eta) * (1 + math.cos(math.pi * progress)) / 2


def variance_covariance_slow(projections):
    """Variance and covariance terms (VICReg) of (N, C, H, W) float64 projections, row by row and channel by channel."""
    n, c, h, w = projections.shape
    rows = []
    for image in range(n):
        for y in range(h):
            for x in range(w):
                vector = projections[image, :, y, x]
                rows.append(vector / vector.norm() * math.sqrt(c))
    means = [sum(row[i] for row in rows) / len(rows) for i in range(c)]

    def covariance(i, j):
        return sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / (len(rows) - 1)

    variance = sum(torch.relu(1 - (covariance(i, i) + 1e-4).sqrt()) for i in range(c)) / c
    return variance, sum(covariance(i, j) ** 2 for i in range(c) for j in range(c) if i != j) / c
