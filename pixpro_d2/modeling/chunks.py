"""Working through a batch in parts, where a pair of all pixels with all pixels would not fit into memory."""

MAX_PAIRS = 2**24  # 64 MiB of float32: large enough to keep a GPU busy, small beside the activations


def image_chunks(features, others=None, max_pairs=MAX_PAIRS):
    """Slices of the images such that the pairs of their pixels number at most ``max_pairs``, but one image at least.

    Args:
        features, others (Tensor): (N, C, L) and (N, C, M); the same by default.
        max_pairs (int): limit of images * L * M.

    Returns:
        list[slice]: of range(N); one unless the level is fine and the batch large.
    """
    count, pairs = len(features), features.shape[2] * (features if others is None else others).shape[2]
    step = max(1, max_pairs // pairs)
    return [slice(start, start + step) for start in range(0, count, step)]
