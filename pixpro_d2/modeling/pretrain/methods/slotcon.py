"""SlotCon: pixels are grouped by prototypes, and the groups are contrasted (Wen et al., NeurIPS 2022, 2205.15288)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ....utils.errors import UsageError
from ...distributed import gather_keys
from ..losses import mean_over_images
from ..projector import NormName
from ..slot_heads import SlotPredictor, SlotProjector
from ..slots import (
    assignment_statistics,
    attention,
    grouping_losses,
    least_pixels,
    pool_slots,
    present_first,
    present_slots,
    prototype_scores,
    resample_overlap,
    slot_contrast,
    updated_center,
)
from ..unit import unit
from .base import LevelView, PixelMethod

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class Center(nn.Module):
    """Keep the moving average of a level's scores, which checkpoints contain: ``mean`` (K,), 0 at the start."""

    mean: Tensor

    def __init__(self, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(prototypes))


@dataclass(frozen=True)
class GroupedView:
    """Hold a view's scores (N, K, H, W) by both branches, of the whole view and of the part in both views."""

    view: LevelView
    online: Tensor
    target: Tensor
    online_overlap: Tensor
    target_overlap: Tensor


class SlotConMethod(PixelMethod):
    """Assign pixels to prototypes alike in both views, and contrast the slots that both views contain.

    The prototypes have a momentum copy. A slot is the mean of the projections, weighted by their assignment to a
    prototype. A view contains a slot if its prototype wins enough pixels. The slots of all images of all processes are
    the negatives. All levels share prototypes and predictor; each level has its own centre.
    """

    needs_overlap = True

    def __init__(
        self,
        levels: Sequence[str],
        channels: int,
        prototypes: int = 2048,
        predictor: nn.Module | None = None,
        target_temperature: float = 0.07,
        online_temperature: float = 0.1,
        contrast_temperature: float = 0.2,
        center_momentum: float = 0.9,
        group_weight: float = 0.5,
        min_share: float = 0.02,
    ) -> None:
        """
        Args:
            levels: feature levels; each has a centre of its own.
            channels: channels of the projections.
            prototypes: K.
            predictor: a module of (slots (R, C), counted (R,)), as :class:`..slot_heads.SlotPredictor`, the default.
            target_temperature: of the target's assignment, and of the attention in both branches.
            online_temperature: of the online branch's assignment.
            contrast_temperature: tau.
            center_momentum: share of the old centre in each update.
            group_weight: w, weight of the grouping loss; the contrast has 1 - w.
            min_share: share of a view's pixels that a slot must win, at least one pixel.
        """
        super().__init__()
        self.prototypes = nn.Embedding(prototypes, channels)
        self.target_prototypes = copy.deepcopy(self.prototypes).requires_grad_(False)
        self.predictor = SlotPredictor(channels) if predictor is None else predictor
        self.centers = nn.ModuleDict({level: Center(prototypes) for level in levels})
        self.target_temperature = target_temperature
        self.online_temperature = online_temperature
        self.contrast_temperature = contrast_temperature
        self.center_momentum = center_momentum
        self.group_weight = group_weight
        self.min_share = min_share

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> "SlotConMethod":
        pixpro, slotcon, views = cfg.MODEL.PIXPRO, cfg.MODEL.PIXPRO.SLOTCON, cfg.INPUT.PIXPRO
        if pixpro.PPM.ENABLED:
            raise UsageError(
                "MODEL.PIXPRO.PPM.ENABLED is True, but METHOD slotcon compares projections without propagation: set it "
                "False."
            )
        if views.MIN_OVERLAP <= 0:
            raise UsageError(
                f"INPUT.PIXPRO.MIN_OVERLAP is {views.MIN_OVERLAP}, but METHOD slotcon learns from what both views "
                "show: set it above 0, such as 0.01."
            )
        if views.N_FRAMES > 1:
            raise UsageError(
                f"INPUT.PIXPRO.N_FRAMES is {views.N_FRAMES}, but METHOD slotcon needs two views of one frame: set it "
                "to 1."
            )
        if pixpro.OFFICIAL_ROUNDING:
            raise UsageError(
                "MODEL.PIXPRO.OFFICIAL_ROUNDING is True, but METHOD slotcon needs the edges of the crops: set it False."
            )
        channels, hidden = pixpro.PROJECTOR.OUT_DIM, pixpro.PROJECTOR.HIDDEN_DIM
        return cls(
            pixpro.IN_FEATURES,
            channels,
            slotcon.NUM_PROTOTYPES,
            SlotPredictor(channels, hidden, pixpro.NORM),
            slotcon.TARGET_TEMPERATURE,
            slotcon.ONLINE_TEMPERATURE,
            pixpro.TEMPERATURE,
            slotcon.CENTER_MOMENTUM,
            slotcon.GROUP_WEIGHT,
            slotcon.MIN_SHARE,
        )

    @staticmethod
    def build_projector(in_channels: int, hidden_channels: int, out_channels: int, norm: NormName) -> nn.Module:
        return SlotProjector(in_channels, hidden_channels, out_channels, norm)

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.prototypes, self.target_prototypes)]

    def _center(self, level: str) -> Center:
        return cast(Center, self.centers[level])

    def forward(self, level: str, views: tuple[LevelView, LevelView], positives: tuple[Tensor, Tensor]) -> Tensor:
        """Sum both losses in both directions; in training, the centre follows the batch afterwards."""
        first, second = (self.group(view) for view in views)
        center = self._center(level)
        grouping = self.grouping(level, first, second) + self.grouping(level, second, first)
        contrast = self.contrast(first, second) + self.contrast(second, first)
        if self.training:
            center.mean = updated_center(center.mean, (first.target, second.target), self.center_momentum)
        return self.group_weight * grouping + (1 - self.group_weight) * contrast

    def group(self, view: LevelView) -> GroupedView:
        """Compute the scores of a view by both branches."""
        online = prototype_scores(view.queries, self.prototypes.weight)
        target = prototype_scores(view.keys, self.target_prototypes.weight).detach()
        resampled = (resample_overlap(scores, view.overlap) for scores in (online, target))
        return GroupedView(view, online, target, *resampled)

    def grouping(self, level: str, query: GroupedView, key: GroupedView) -> Tensor:
        """Compare the assignments of the common part, 0-d; the mean is over images whose views overlap."""
        losses = grouping_losses(
            query.online_overlap,
            key.target_overlap,
            self._center(level).mean,
            self.online_temperature,
            self.target_temperature,
        )
        return mean_over_images(losses, query.view.overlap.exists, "matched")

    def contrast(self, query: GroupedView, key: GroupedView) -> Tensor:
        """Contrast the slots of both views with the other slots, 0-d; 0 with a graph if no slot is in both views.

        The mean is over the slots of all processes.
        """
        pixels = query.online[0, 0].numel()
        least = least_pixels(self.min_share, pixels)
        # At most pixels // least prototypes can each win `least` pixels.
        places, is_key = present_first(present_slots(key.target, least), min(len(query.online[0]), pixels // least))
        is_query = is_key & present_slots(query.online, least).gather(1, places)
        slots = self._slots(query.online, query.view.projection, places).flatten(0, 1)
        queries = unit(self.predictor(slots, is_query.flatten()))
        own = unit(self._slots(key.target, key.view.target_projection, places).detach().flatten(0, 1))
        keys, offset = gather_keys(own)
        counted, _ = gather_keys(is_key.flatten().to(torch.uint8))
        losses = slot_contrast(queries, keys, counted.bool(), offset, self.contrast_temperature)
        return 2 * self.contrast_temperature * mean_over_images(losses, is_query.flatten(), "matched")

    def _slots(self, scores: Tensor, features: Tensor, places: Tensor) -> Tensor:
        """Return the slots (N, M, C) of the prototypes ``places`` (N, M)."""
        shares = attention(scores, self.target_temperature)
        return pool_slots(shares.gather(1, places[:, :, None].expand(-1, -1, shares.shape[2])), features)

    @torch.no_grad()
    def monitors(self, level: str, views: tuple[LevelView, LevelView]) -> dict[str, Tensor]:
        """Return the numbers of :func:`..slots.assignment_statistics`, and how many slots a pair of views shares."""
        online = [prototype_scores(view.queries, self.prototypes.weight) for view in views]
        target = [prototype_scores(view.keys, self.target_prototypes.weight) for view in views]
        least = least_pixels(self.min_share, online[0][0, 0].numel())
        shared = present_slots(online[0], least) & present_slots(target[1], least)
        statistics = assignment_statistics(torch.cat(target), self._center(level).mean, self.target_temperature)
        return {**statistics, "shared_slots": shared.sum(dim=1).float().mean()}

    @torch.no_grad()
    def segments(self, view: LevelView) -> Tensor:
        """Return the number of the prototype that wins each pixel by the target branch, (N, H, W) int64."""
        return prototype_scores(view.keys, self.target_prototypes.weight).argmax(dim=1)
