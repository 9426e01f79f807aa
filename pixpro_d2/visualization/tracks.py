"""Points of one frame of a video followed to another: what pictures of optical flow are drawn from.

Points are (x, y) in continuous pixel coordinates: the centre of a frame's first pixel is (0.5, 0.5).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..modeling.pretrain.flow_points import track_points

CHUNK = 2**20  # points that are followed at once: some 100 MB, whatever the size of the frames


@dataclass(frozen=True)
class Tracks:
    """Where n points of a first frame are in a second one.

    * starts, ends: (n, 2) float32, in the first and in the second frame;
    * valid: (n,) bool, which of them training would use.
    """

    starts: np.ndarray
    ends: np.ndarray
    valid: np.ndarray

    @property
    def lengths(self):
        """(n,) pixels from start to end."""
        return np.linalg.norm(self.ends - self.starts, axis=1)

    def end_inside(self, size):
        """Which ends, (n,) bool, lie between the centres of the outermost pixels of a frame of ``size`` (W, H)."""
        # A point at rest on the border is inside, whatever half a pixel more and less made of it.
        return ((self.ends > 0.499) & (self.ends < np.array(size) - 0.499)).all(axis=1)


@torch.no_grad()
def follow(points, motion, correspondence):
    """Follow points as training does.

    Args:
        points (ndarray): (n, 2) in the first frame; those nearer to its edge than half a pixel start from there.
        motion (pixpro_d2.modeling.pretrain.flow_points.Motion): of one sample, from the first frame to the second.
        correspondence (FlowCorrespondence): whose rule says which points are valid.

    Returns:
        Tracks:
    """
    last = motion.scale.last[0]
    starts = torch.as_tensor(points, dtype=torch.float32, device=last.device) - 0.5
    starts = torch.minimum(starts.clamp(min=0), last)
    rule = correspondence.consistency, correspondence.alpha1, correspondence.alpha2
    parts = [track_points(chunk[None], motion, *rule) for chunk in starts.split(CHUNK)]
    displacements, valid = (torch.cat(part, dim=1)[0] for part in zip(*parts))
    ends = starts + displacements
    return Tracks((starts + 0.5).cpu().numpy(), (ends + 0.5).cpu().numpy(), valid.cpu().numpy())


def pixel_centers(size):
    """Centres (W * H, 2) float32 of the pixels of a frame of ``size`` (W, H), row-major."""
    x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) + 0.5 for side in size))
    return np.stack((x, y), axis=-1).reshape(-1, 2)


def corner_points(image, cells):
    """The strongest corner in each cell of an image: places that the eye finds again in another frame.

    Args:
        image (PIL.Image.Image): RGB.
        cells (tuple[int, int]): (columns, rows) that it is divided into; no more than it has pixels.

    Returns:
        ndarray: (columns * rows, 2) float32, row-major; centres of pixels.
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


def warp_back(image, tracks):
    """What the second frame shows at the ends of all pixels of the first: equal to the first if the flow is right.

    Args:
        image (PIL.Image.Image): the second frame, RGB (W, H).
        tracks (Tracks): of :func:`pixel_centers`; outside the frame its outermost pixels are repeated.

    Returns:
        ndarray: (H, W, 3) float32, values in [0, 255].
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    far = torch.tensor(image.size).sub(1).clamp(min=1)
    places = (2 * (torch.from_numpy(tracks.ends) - 0.5) / far - 1).view(1, image.height, image.width, 2)
    warped = F.grid_sample(pixels[None], places, padding_mode="border", align_corners=True)
    return warped[0].permute(1, 2, 0).numpy()
