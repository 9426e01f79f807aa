"""SlotCon by plain loops in float64, written from its description; nothing here calls into pixpro_d2.

Maps are lists of images, ``map[k][i][j]`` an image's score; gradients pass, because the numbers are 0-d tensors.
"""

import math

import torch


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit_slow(vector):
    length = torch.sqrt(dot(vector, vector)).clamp(min=1e-12)
    return [x / length for x in vector]


def scores_slow(features, prototypes):
    """(N, C, H, W) and (K, C) float64 to (N, K, H, W)."""
    n, _, height, width = features.shape
    rows = [unit_slow(list(prototype)) for prototype in prototypes]
    cells = []
    for image in range(n):
        for row in rows:
            for i in range(height):
                for j in range(width):
                    cells.append(dot(row, unit_slow(list(features[image, :, i, j]))))
    return torch.stack(cells).reshape(n, len(rows), height, width)


def softmax_slow(values):
    largest = max(values)
    terms = [torch.exp(value - largest) for value in values]
    return [term / sum(terms) for term in terms]


def slots_slow(scores, features, temperature=0.07):
    """(N, K, C)."""
    n, k, height, width = scores.shape
    slots = []
    for image in range(n):
        totals, weights = [0.0] * k, [0.0] * k
        for i in range(height):
            for j in range(width):
                shares = softmax_slow([scores[image, p, i, j] / temperature for p in range(k)])
                for p in range(k):
                    share = shares[p] + 1e-6
                    totals[p] = totals[p] + share * features[image, :, i, j]
                    weights[p] = weights[p] + share
        slots.append(torch.stack([total / weight for total, weight in zip(totals, weights)]))
    return torch.stack(slots)


def bilinear_slow(plane, y, x):
    """Value of ``plane`` (H, W) at a place in cells, whose centres are whole numbers; the values at the rim repeat."""
    height, width = plane.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - (x - left)) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - (x - left)) + plane[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def resampled_slow(maps, boxes, flips):
    """(N, K, H, W) with boxes (x0, y0, x1, y1) in shares of the view; a view without an overlap becomes 0."""
    n, k, height, width = maps.shape
    result = []
    for image in range(n):
        x0, y0, x1, y1 = (float(value) for value in boxes[image])
        for p in range(k):
            for i in range(height):
                row = []
                for j in range(width):
                    y = y0 * height - 0.5 + (i + 0.5) * (y1 - y0)
                    x = x0 * width - 0.5 + (j + 0.5) * (x1 - x0)
                    value = bilinear_slow(maps[image, p], y, x)
                    row.append(value if x1 > x0 and y1 > y0 else value * 0)
                result += reversed(row) if flips[image] else row
    return torch.stack(result).reshape(maps.shape)


def grouping_slow(online, target, center, online_temperature=0.1, target_temperature=0.07):
    """Mean over the cells of all images of maps (N, K, H, W)."""
    n, k, height, width = online.shape
    losses = []
    for image in range(n):
        for i in range(height):
            for j in range(width):
                values = [(target[image, p, i, j] - center[p]) / target_temperature for p in range(k)]
                wanted = softmax_slow(values)
                given = softmax_slow([online[image, p, i, j] / online_temperature for p in range(k)])
                losses.append(-sum(t.detach() * torch.log(q) for t, q in zip(wanted, given)))
    return sum(losses) / len(losses)


def center_slow(center, maps, momentum=0.9):
    """After a batch with the scores ``maps``, a list of (N, K, H, W)."""
    new = []
    for p in range(len(center)):
        values = [float(v) for scores in maps for v in scores[:, p].flatten()]
        new.append(momentum * float(center[p]) + (1 - momentum) * sum(values) / len(values))
    return torch.tensor(new, dtype=torch.float64)


def present_slow(scores, least=1):
    """List of N lists of K bool."""
    n, k, height, width = scores.shape
    masks = []
    for image in range(n):
        won = [0] * k
        for i in range(height):
            for j in range(width):
                column = scores[image, :, i, j].tolist()
                won[column.index(max(column))] += 1
        masks.append([count >= least for count in won])
    return masks


def contrast_slow(online, target, features, target_features, predict, tau=0.2, least=1):
    """One direction: keys are the slots in the target's view, queries those in both views.

    Args:
        online, target: scores (N, K, H, W).
        features, target_features: projections (N, C, H, W).
        predict (Callable): rows (Q, C), those of queries only, to rows.
        tau (float), least (int): temperature, and how many cells a slot must win.

    Returns:
        tuple: the loss with its factor 2 tau (None without a query), and the places of the queries among the keys.
    """
    slots, target_slots = slots_slow(online, features), slots_slow(target, target_features).detach()
    here, there = present_slow(online, least), present_slow(target, least)
    keys, queries, labels = [], [], []
    for image in range(len(slots)):
        for p in range(slots.shape[1]):
            if there[image][p] and here[image][p]:
                queries.append(slots[image, p])
                labels.append(len(keys))
            if there[image][p]:
                keys.append(unit_slow(list(target_slots[image, p])))
    if not queries:
        return None, []
    losses = []
    for row, label in zip(predict(torch.stack(queries)), labels):
        logits = [dot(unit_slow(list(row)), key) / tau for key in keys]
        losses.append(-torch.log(softmax_slow(logits)[label]))
    return 2 * tau * sum(losses) / len(losses), labels
