"""Split a batch into parts, where the pairs of all pixels with all pixels would not fit into memory."""

MAX_PAIRS = 2**24  # 64 MiB of float32: large enough to keep a GPU busy, small beside the activations


def image_chunks(count: int, pairs: int, max_pairs: int = MAX_PAIRS) -> list[slice]:
    """Split the images into slices with at most ``max_pairs`` pairs of pixels each, but at least one image each.

    Args:
        count: number of images, N.
        pairs: pairs of pixels of an image.
        max_pairs: limit of images * pairs.

    Returns:
        Slices of range(N); a single slice unless the level is fine and the batch large.
    """
    step = max(1, max_pairs // pairs)
    return [slice(start, start + step) for start in range(0, count, step)]
