"""From a video's dict to views of two of its frames, with what tells how the pixels moved in between."""

import numpy as np
from detectron2.config import configurable

from ..datasets.video import list_frames
from ..io.reader import EncodedImage, UnreadableImage
from .mapper import TwoViewMapper
from .photometric import to_planes


class VideoMapper(TwoViewMapper):
    """Cut one view out of either end of a random run of consecutive frames."""

    @configurable
    def __init__(self, *, num_frames, flow=None, give_frames=False, swap_p=0.0, **views):
        """
        Args:
            num_frames (int): length of the run; 1 takes both views from one frame.
            flow (FlowFiles or None): where the optical flow from frame to frame is read.
            give_frames (bool): decode all frames of the run and give them, for flow to be estimated.
            swap_p (float): probability that the later frame is the first view's.
            **views: of :class:`TwoViewMapper`.
        """
        super().__init__(**views)
        self.num_frames = num_frames
        self.flow = flow
        self.give_frames = give_frames
        self.swap_p = swap_p

    def __call__(self, dataset_dict, rng=None):
        """
        Args:
            dataset_dict (dict): of :func:`pixpro_d2.data.datasets.video.load_videos`, not shorter than the run.
            rng (numpy.random.Generator): source of all randomness; a fresh one by default.

        Returns:
            dict: as of :class:`TwoViewMapper`; ``file_name`` is the first view's frame. For several frames also

            * with ``flow``: flow_there and flow_back, (num_frames - 1, 2, h, w) float16 each, the steps from the first
              view's frame to the second's and back in order of use, in pixels of their own grid;
            * with ``give_frames``: frames (num_frames, 3, H, W) uint8, RGB, from the first view's to the second's.

        Raises:
            UnreadableImage: for a frame that does not decode, frames of several sizes, or a folder that has changed.
            UsageError: for flow that is missing or does not belong to the video.
        """
        rng = rng or np.random.default_rng()
        start = int(rng.integers(dataset_dict["num_frames"] - self.num_frames + 1))
        steps = self.num_frames - 1
        swap = steps > 0 and rng.random() < self.swap_p
        paths = _frame_paths(dataset_dict)[start : start + self.num_frames]
        if swap:
            paths.reverse()
        read = paths if self.give_frames else paths[:: max(1, steps)]
        images = [EncodedImage(path, self.pixel_range) for path in read]
        sizes = sorted({image.size for image in images})
        if len(sizes) > 1:
            listed = ", ".join(f"{width} x {height}" for width, height in sizes)
            raise UnreadableImage(f"{dataset_dict['file_name']}: frames of several sizes ({listed} pixels)")
        sample = {"file_name": paths[0]}
        if steps and self.give_frames:  # before the views, which can do with smaller images
            sample["frames"] = np.stack([to_planes(image.decode()[0]) for image in images])
        sample.update(self.cut_views((images[0], images[-1]), rng))
        if steps and self.flow is not None:
            own = dataset_dict["num_frames"], sample["image_size"]
            flows = self.flow.read(dataset_dict["video"], start, steps, *own)
            sample["flow_there"], sample["flow_back"] = reversed(flows) if swap else flows
        return sample


def _frame_paths(dataset_dict):
    folder, expected = dataset_dict["file_name"], dataset_dict["num_frames"]
    try:
        paths = list_frames(folder)
    except OSError as error:
        raise UnreadableImage(f"{folder}: {error.strerror}") from error
    if len(paths) != expected:
        raise UnreadableImage(f"{folder}: {len(paths)} frames, but {expected} when the data set was loaded")
    return paths
