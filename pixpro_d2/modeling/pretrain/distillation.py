"""Dense distillation: the projections of every level agree with a frozen teacher's features at the same places."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .agreement import LOSSES, mean_over_bins, positions_in, sample_at, standardized
from .projector import LevelHeads
from .teacher import Teacher


class Distillation(nn.Module):
    """Compare the projections of a student's levels with a teacher's features.

    A teacher's map is resampled at the centres of the student's bins. The teacher sees the other view, or the same
    view. It runs once for each view, and serves all levels.
    """

    def __init__(
        self, teacher: Teacher, projector: LevelHeads, weight: float = 1.0, view: str = "other", loss: str = "cosine"
    ) -> None:
        """
        Args:
            teacher: gives the features of images that are normalised for the student.
            projector: a head for each level, to the teacher's channels.
            weight: weight of the mean over the levels.
            view: ``other`` or ``same``, the view that the teacher sees.
            loss: a key of :data:`.agreement.LOSSES`.
        """
        super().__init__()
        self.teacher = teacher
        self.projector = projector
        self.weight = weight
        self.view = view
        self.loss = LOSSES[loss]

    def forward(
        self, views: Sequence[Tensor], features: Sequence[dict[str, Tensor]], geometry: Any
    ) -> dict[str, Tensor]:
        """Compute the losses ``loss_distill_<level>``, weighted so that their sum is the mean over the levels.

        Args:
            views: two tensors (N, C, H, W), normalised for the student.
            features: features of each view by level, inputs of the projector.
            geometry: a pair of boxes (N, 4); not read for the teacher of the same view.
        """
        projections = [self.projector(levels) for levels in features]
        losses = {}
        with torch.autocast(views[0].device.type, enabled=False):
            maps = standardized([self.teacher(view) for view in views])
            boxes = geometry if self.view == "other" else [_whole(view) for view in views]
            if self.view == "other":
                maps = maps[::-1]
            for level in features[0]:
                there, back = (
                    self._direction(student[level], teacher, *pair)
                    for student, teacher, pair in zip(projections, maps, (boxes, boxes[::-1]))
                )
                losses[f"loss_distill_{level}"] = self.weight * (there + back) / 2 / len(features[0])
        return losses

    def _direction(self, student: Tensor, teacher: Tensor, boxes_q: Tensor, boxes_k: Tensor) -> Tensor:
        """Compare the projections (N, C, H, W) of one view with the teacher's map of a view."""
        with torch.no_grad():
            positions, inside = positions_in(boxes_q, boxes_k, (student.shape[2], student.shape[3]))
            target = sample_at(teacher, positions)
        return mean_over_bins(self.loss(student, target), inside)


def _whole(view: Tensor) -> Tensor:
    """Return the box (N, 4) of a view in shares of itself."""
    corners = view.new_zeros(len(view), 2)
    return torch.cat((corners, corners + 1), dim=1)
