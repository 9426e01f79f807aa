"""The views in pictures of pre-training: as training draws them, with the positions of their pixels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from ..config import with_values
from ..data.datasets.video import list_frames
from ..data.io.reader import read_image
from ..data.pretrain.collate import collate
from ..data.pretrain.samples import build_view_mapper
from ..modeling.pretrain.correspondence import BoxCorrespondence, box_overlap
from ..modeling.pretrain.correspondence_builder import build_correspondence
from ..modeling.pretrain.pixpro import PixPro
from ..modeling.pretrain.two_branch import LevelComparison
from ..utils.modules import eval_mode

ATTEMPTS = 20  # maximum number of draws of views, until they share LEAST_SHARED of the smaller view
LEAST_SHARED = 0.25


@dataclass(frozen=True)
class Frame:
    """Hold the image that a view was cropped from: ``image``, RGB, of the file ``name``."""

    image: Image.Image
    name: str


class ViewSource:
    """Draw pairs of views of images or videos with finished colours, the earlier frame first."""

    @configurable
    def __init__(
        self,
        *,
        mapper: Any,
        plain_mapper: Any,
        correspondence: BoxCorrespondence,
        device: torch.device,
        image_format: str,
        n_frames: int,
    ) -> None:
        """
        Args:
            mapper: TwoViewMapper or VideoMapper as in training.
            plain_mapper: the same mapper without changes of colour.
            correspondence: finds the pixels that show the same point.
            device: device of the correspondence.
            image_format: channel order of the views, RGB, BGR or L.
            n_frames: number of frames that a pair of views spans in a video; 0 for images.
        """
        self.mapper = mapper
        self.plain_mapper = plain_mapper
        self.correspondence: Any = correspondence  # a FlowCorrespondence for frames of a video
        self.device = device
        self.image_format = image_format
        self.n_frames = n_frames

    @classmethod
    def from_config(cls, cfg: CfgNode, correspondence: BoxCorrespondence | None = None) -> dict[str, Any]:
        """Read the config; pass the ``correspondence`` of a model, so that it is not built a second time."""
        cfg = with_values(cfg, {"INPUT.AUG_DEVICE": "cpu", "INPUT.PIXPRO.SWAP_P": 0.0})
        return {
            "mapper": build_view_mapper(cfg),
            "plain_mapper": build_view_mapper(with_values(cfg, {"INPUT.PIXPRO.AUG": "none"})),
            "correspondence": correspondence or build_correspondence(cfg),
            "device": torch.device(cfg.MODEL.DEVICE),
            "image_format": cfg.INPUT.FORMAT,
            "n_frames": cfg.INPUT.PIXPRO.N_FRAMES,
        }

    def subject(self, dataset_dict: dict[str, Any], seed: tuple[int, ...]) -> "Subject":
        """Draw two views that depend on the seed only, and that share LEAST_SHARED if ATTEMPTS draws suffice.

        Args:
            dataset_dict: dict of an image, or of a video.
            seed: non-negative.

        Raises:
            UnreadableImage, UsageError: errors of the mapper.
        """
        for attempt in range(ATTEMPTS):
            sample = self.mapper(dataset_dict, np.random.default_rng((*seed, attempt)))
            if box_overlap(*torch.from_numpy(sample["boxes"])[:, None]) >= LEAST_SHARED:
                break
        plain = self.plain_mapper(dataset_dict, np.random.default_rng((*seed, attempt)))
        return Subject(dataset_dict, sample, plain)

    def geometry(self, sample: dict[str, Any]) -> Any:
        """Return the position of the views of a sample, as the correspondence takes it."""
        return self.correspondence.geometry(collate([sample]), self.device)

    def images(self, sample: dict[str, Any]) -> list[Image.Image]:
        """Return both views as RGB images."""
        views = sample["views"][:, ::-1] if self.image_format == "BGR" else sample["views"]
        return [to_pil_image(torch.from_numpy(view.copy())).convert("RGB") for view in views]

    def frames(self, dataset_dict: dict[str, Any], sample: dict[str, Any]) -> list[Frame]:
        """Return the image that the views were cropped from, or with ``n_frames`` > 1 the first and the last frame."""
        paths = [sample["file_name"]]
        if self.n_frames > 1:
            listed = list_frames(dataset_dict["file_name"])
            paths.append(listed[listed.index(paths[0]) + self.n_frames - 1])
        return [Frame(read_image(path, self.plain_mapper.pixel_range), os.path.basename(path)) for path in paths]


@dataclass(frozen=True)
class Subject:
    """Hold two fixed views of an image or video.

    * dataset_dict: dict of the image or video;
    * sample: result of the mapper, as in training;
    * plain: the same crops without changes of colour.
    """

    dataset_dict: dict[str, Any]
    sample: dict[str, Any]
    plain: dict[str, Any]


@torch.no_grad()
def compare_views(model: PixPro, samples: Sequence[dict[str, Any]]) -> dict[str, LevelComparison]:
    """Compare the views of samples by a pre-training model, with the running statistics of its norms.

    The model does not change. All processes must call this, because it computes losses between processes.

    Args:
        model: in any mode.
        samples: results of a mapper.

    Returns:
        The comparison of each feature level; see `two_branch.LevelComparison`.
    """
    with eval_mode(model):
        return model.compare(*model.views_and_geometry(collate(samples)))[1]
