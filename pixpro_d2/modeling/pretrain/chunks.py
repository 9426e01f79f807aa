"""Working through a batch in parts, where a pair of all pixels with all pixels would not fit into memory."""

MAX_PAIRS = 2**24  # 64 MiB of float32: large enough to keep a GPU busy, small beside the activations


def image_chunks(count, pairs, max_pairs=MAX_PAIRS):
    """Slices of the images such that the pairs of their pixels number at most ``max_pairs``, but one image at least.

    Args:
        count (int): of images, N.
        pairs (int): pairs of pixels of an image.
        max_pairs (int): limit of images * pairs.

    Returns:
        list[slice]: of range(N); one unless the level is fine and the batch large.
    """
    step = max(1, max_pairs // pairs)
    return [slice(start, start + step) for start in range(0, count, step)]
