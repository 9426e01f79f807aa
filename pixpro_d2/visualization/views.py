"""The views that pictures of pre-training are made of: as training draws them, and where their pixels lie."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import configurable
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from ..data.datasets.video import list_frames
from ..data.io.reader import read_image
from ..data.pretrain.collate import collate_videos
from ..data.pretrain.samples import build_view_mapper
from ..modeling.pretrain.correspondence_builder import build_correspondence
from ..utils.modules import eval_mode
from .labels import overlap

ATTEMPTS = 20  # to draw views that overlap


@dataclass(frozen=True)
class Frame:
    """What a view was cut out of: ``image``, RGB, of the file ``name``."""

    image: Image.Image
    name: str


class ViewSource:
    """Draws pairs of views of images or videos with finished colours, the earlier frame first."""

    @configurable
    def __init__(self, *, mapper, plain_mapper, correspondence, device, image_format, n_frames):
        """
        Args:
            mapper (TwoViewMapper): as in training.
            plain_mapper (TwoViewMapper): the same without changes of colour.
            correspondence (BoxCorrespondence): which pixels are the same point.
            device (torch.device): where that is computed.
            image_format (str): of the views, RGB, BGR or L.
            n_frames (int): that a pair of views spans in a video; 0 for images.
        """
        self.mapper = mapper
        self.plain_mapper = plain_mapper
        self.correspondence = correspondence
        self.device = device
        self.image_format = image_format
        self.n_frames = n_frames

    @classmethod
    def from_config(cls, cfg, correspondence=None):
        """``correspondence`` is that of a model, which otherwise would be built a second time."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.INPUT.AUG_DEVICE = "cpu"
        cfg.INPUT.PIXPRO.SWAP_P = 0.0
        mapper = build_view_mapper(cfg)
        cfg.INPUT.PIXPRO.AUG = "none"
        return {
            "mapper": mapper,
            "plain_mapper": build_view_mapper(cfg),
            "correspondence": correspondence or build_correspondence(cfg),
            "device": torch.device(cfg.MODEL.DEVICE),
            "image_format": cfg.INPUT.FORMAT,
            "n_frames": cfg.INPUT.PIXPRO.N_FRAMES,
        }

    def subject(self, dataset_dict, seed):
        """Two views that are the same whenever they are drawn, and overlap if that can be had.

        Args:
            dataset_dict (dict): of an image, or of a video.
            seed (tuple[int, ...]): non-negative.

        Returns:
            Subject:

        Raises:
            UnreadableImage, UsageError: of the mapper.
        """
        for attempt in range(ATTEMPTS):
            sample = self.mapper(dataset_dict, np.random.default_rng((*seed, attempt)))
            if _share_a_quarter(sample["boxes"]):
                break
        plain = self.plain_mapper(dataset_dict, np.random.default_rng((*seed, attempt)))
        return Subject(dataset_dict, sample, plain)

    def geometry(self, sample):
        """Where the views of a sample lie, as the correspondence takes it."""
        return self.correspondence.prepare(collate_videos([sample]), self.device)

    def images(self, sample):
        """Both views as PIL images, RGB."""
        views = sample["views"][:, ::-1] if self.image_format == "BGR" else sample["views"]
        return [to_pil_image(torch.from_numpy(view.copy())).convert("RGB") for view in views]

    def frames(self, dataset_dict, sample):
        """What the views were cut out of: one :class:`Frame`, or of a video's ``n_frames`` > 1 the first and last."""
        paths = [sample["file_name"]]
        if self.n_frames > 1:
            listed = list_frames(dataset_dict["file_name"])
            paths.append(listed[listed.index(paths[0]) + self.n_frames - 1])
        return [Frame(read_image(path, self.plain_mapper.pixel_range), os.path.basename(path)) for path in paths]


@dataclass(frozen=True)
class Subject:
    """Two fixed views of an image or video.

    * dataset_dict: what they are of;
    * sample: of the mapper, as in training;
    * plain: the same crops without changes of colour.
    """

    dataset_dict: dict
    sample: dict
    plain: dict


def _share_a_quarter(boxes):
    """Whether two signed crop boxes share a quarter of the smaller one."""
    first, second = (_upright(box) for box in boxes)
    return 4 * overlap(first, second) >= min(overlap(first, first), overlap(second, second))


def _upright(box):
    return min(box[0], box[2]), box[1], max(box[0], box[2]), box[3]


@torch.no_grad()
def compare_views(model, samples):
    """What a pre-training model makes of samples, with the running statistics of its norms; it stays as it is.

    Losses between processes are part of it: with several, all must call it.

    Args:
        model (PixPro): in any mode.
        samples (list[dict]): of a mapper.

    Returns:
        dict[str, LevelComparison]: by feature level; see `two_branch.LevelComparison`.
    """
    with eval_mode(model):
        return model.compare(*model.prepare(collate_videos(samples)))[1]
