"""Points of one frame of a video followed to another frame, for pictures of optical flow.

Points are (x, y) in continuous pixel coordinates: the centre of a frame's first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..modeling.pretrain.flow_correspondence import FlowCorrespondence
from ..modeling.pretrain.flow_points import Motion, track_points

CHUNK = 2**20  # points that are followed at once: about 100 MB for frames of any size


@dataclass(frozen=True)
class Tracks:
    """Hold the positions of n points in two frames.

    * starts, ends: (n, 2) float32, in the first and in the second frame;
    * valid: (n,) bool, whether training would use the point.
    """

    starts: np.ndarray
    ends: np.ndarray
    valid: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Return the distances (n,) from start to end in pixels."""
        return np.linalg.norm(self.ends - self.starts, axis=1)

    def end_inside(self, size: tuple[int, int]) -> np.ndarray:
        """Return for each end, (n,) bool, whether it is inside a frame of ``size`` (W, H).

        The border of the frame is the centres of its outermost pixels.
        """
        # A point at rest on the border is inside, also after rounding errors of half a pixel added and subtracted.
        return np.all((self.ends > 0.499) & (self.ends < np.array(size) - 0.499), axis=1)


@torch.no_grad()
def follow(points: np.ndarray, motion: Motion, correspondence: FlowCorrespondence) -> Tracks:
    """Follow points as training does.

    Args:
        points: (n, 2) in the first frame; a point nearer to its edge than half a pixel is moved to half a pixel.
        motion: motion of one sample, from the first frame to the second.
        correspondence: its rule decides which points are valid.
    """
    last = motion.scale.last[0]
    starts = torch.as_tensor(points, dtype=torch.float32, device=last.device) - 0.5
    starts = torch.minimum(starts.clamp(min=0), last)
    rule = correspondence.consistency, correspondence.alpha1, correspondence.alpha2
    parts = [track_points(chunk[None], motion, *rule) for chunk in starts.split(CHUNK)]
    displacements, valid = (torch.cat(part, dim=1)[0] for part in zip(*parts))
    ends = starts + displacements
    return Tracks((starts + 0.5).cpu().numpy(), (ends + 0.5).cpu().numpy(), valid.cpu().numpy())


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """Return the centres (W * H, 2) float32 of the pixels of a frame of ``size`` (W, H), row-major."""
    x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in size))
    return np.stack((x, y), axis=-1).reshape(-1, 2)


def corner_points(image: Image.Image, cells: tuple[int, int]) -> np.ndarray:
    """Find the strongest corner in each cell of an image: places that the eye finds again in another frame.

    Args:
        image: RGB.
        cells: (columns, rows) of cells; no more than the image has pixels.

    Returns:
        (columns * rows, 2) float32, row-major; centres of pixels.
    """
    grey = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY)
    strength = cv2.cornerMinEigenVal(grey, blockSize=5)
    columns, rows = (np.linspace(0, side, count + 1).astype(int) for side, count in zip(image.size, cells))
    points = []
    for top, bottom in zip(rows, rows[1:]):
        for left, right in zip(columns, columns[1:]):
            cell = strength[top:bottom, left:right]
            y, x = np.unravel_index(cell.argmax(), cell.shape)
            points.append((left + x + 0.5, top + y + 0.5))
    return np.array(points, dtype=np.float32)


def warp_back(image: Image.Image, tracks: Tracks) -> np.ndarray:
    """Sample the second frame at the ends of all pixels of the first: the result equals the first if the flow is right.

    Args:
        image: the second frame, RGB (W, H).
        tracks: tracks of :func:`pixel_centers`; outside the frame its outermost pixels are repeated.

    Returns:
        (H, W, 3) float32, values in [0, 255].
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    far = torch.tensor(image.size).sub(1).clamp(min=1)
    places = (2 * (torch.from_numpy(tracks.ends) - 0.5) / far - 1).view(1, image.height, image.width, 2)
    warped = F.grid_sample(pixels[None], places, padding_mode="border", align_corners=True)
    return warped[0].permute(1, 2, 0).numpy()
