"""Tokens of a vision transformer as a feature map."""

from torch import Tensor, nn

from ..utils.errors import UsageError

MAX_OTHER_TOKENS = 17  # tokens that are no patches: a class token and at most 16 registers


def tokens_to_map(tokens: Tensor, image_size: tuple[int, int], patch_size: int, name: str) -> Tensor:
    """Return the feature map (N, C, H / patch_size, W / patch_size) of tokens (N, L, C) of images (N, ?, H, W).

    The patches' tokens must come last, row by row. The tokens before them, such as a class token, are skipped.

    Args:
        image_size: (H, W).
        patch_size: side of a patch in pixels.
        name: name of the layer in error messages.

    Raises:
        UsageError: if there are fewer tokens than patches, or many more, or if the patches do not fill the images.
    """
    height, width = image_size
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise UsageError(
            f"{name} has patches of {patch_size} pixels, which do not fill images of {height} x {width} pixels: choose "
            f"an image_size of multiples of {patch_size}."
        )
    grid = height // patch_size, width // patch_size
    skipped = tokens.shape[1] - grid[0] * grid[1]
    if skipped < 0:
        raise UsageError(
            f"{name} gives {tokens.shape[1]} tokens, but images of {height} x {width} pixels have {grid[0]} x "
            f"{grid[1]} patches of {patch_size} pixels: give the network's own patch size."
        )
    for smaller in range(1, patch_size):
        if height % smaller == 0 == width % smaller:
            further = tokens.shape[1] - (height // smaller) * (width // smaller)
            if 0 <= further < min(skipped, MAX_OTHER_TOKENS):
                raise UsageError(
                    f"{name} gives {tokens.shape[1]} tokens, which are those of patches of {smaller} pixels, not of "
                    f"{patch_size}: give the network's own patch size."
                )
    return tokens[:, skipped:].transpose(1, 2).unflatten(2, grid)


class TokenMaps(nn.Module):
    """Return the output of a network, as a map if the output is tokens (N, L, C)."""

    def __init__(self, net: nn.Module, patch_size: int, name: str) -> None:
        super().__init__()
        self.net = net
        self.patch_size = patch_size
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        output = self.net(images)
        if output.dim() != 3:
            return output
        return tokens_to_map(output, (images.shape[2], images.shape[3]), self.patch_size, self.name)
