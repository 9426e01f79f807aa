"""Online and target branch, and the losses between two views; independent of detectron2's configs and loaders."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..backbone import forward_with_last
from .distillation import Distillation
from .instance import InstanceBranch
from .losses import variance_covariance
from .methods import LevelView, PixelMethod
from .momentum import update_target
from .projector import LevelHeads
from .unit import unit
from .view_overlap import view_overlaps

if TYPE_CHECKING:
    from detectron2.modeling import Backbone


@dataclass(frozen=True)
class LevelComparison:
    """Hold the tensors of the comparison of two views at one level.

    Attributes:
        views: both views.
        positives: (N, L0, L1) bool, mask of the positive pairs from the first view to the second.
        positives_back: (N, L1, L0) bool, mask from the second view to the first.
    """

    views: tuple[LevelView, LevelView]
    positives: Tensor
    positives_back: Tensor

    @property
    def projection(self) -> Tensor:
        """Return the projection (N, C, H, W) of the first view."""
        return self.views[0].projection


class TwoBranch(nn.Module):
    """Send two views through an online and a target branch, and compare the results.

    Online branch: backbone - dense head (optional) - projector - PPM (optional) - L2. Target branch: momentum copies
    of the first three - L2; without gradient, in train mode, with running statistics of their own. The two
    views go through each branch one after the other, so that a batch norm sees one view at a time (official code).
    """

    def __init__(
        self,
        *,
        backbone: "Backbone",
        in_features: Sequence[str],
        projector: LevelHeads | None,
        method: PixelMethod,
        correspondence: Callable[[Any, list[tuple[int, int]]], tuple[Tensor, Tensor]],
        head: nn.Module | None = None,
        ppm: LevelHeads | None = None,
        instance: InstanceBranch | None = None,
        instance_weight: float = 1.0,
        pixel_weight: float = 1.0,
        variance_weight: float = 0.0,
        covariance_weight: float = 0.0,
        distillation: Distillation | None = None,
    ) -> None:
        """
        Args:
            backbone: a detectron2 backbone, or a module like it: images (N, C, H, W) to a dict of feature maps, with
                ``output_shape()``.
            in_features: features that carry a pixel loss; none with an instance branch only.
            projector: a projector for each of ``in_features``; None without features.
            method: the pixel loss.
            correspondence: ``correspondence(geometry, grids)`` gives the positives of a level, as
                :class:`pixpro_d2.modeling.pretrain.correspondence.BoxCorrespondence` does.
            head: dict of features to dict of features, between backbone and projector.
            ppm: a pixel propagation module for each feature.
            instance: instance branch on the last of the bottom-up network's features.
            instance_weight: alpha.
            pixel_weight: weight of the method's loss.
            variance_weight, covariance_weight: weights of the two terms of
                `losses.variance_covariance` on the online projections in training; 0 computes none.
            distillation: a loss between the features of ``in_features`` and a frozen teacher's features.
        """
        super().__init__()
        self.backbone = backbone
        self.in_features = list(in_features)
        self.head = head
        self.projector: Any = projector  # like the targets below, None only if it is not used
        self.ppm = ppm
        self.method = method
        self.correspondence = correspondence
        self.instance = instance
        self.instance_weight = instance_weight
        self.pixel_weight = pixel_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        self.distillation = distillation
        self.has_moved_target = False  # since this object was built

        self.target_backbone = copy.deepcopy(backbone)
        self.target_head = copy.deepcopy(head)
        self.target_projector: Any = copy.deepcopy(projector)
        self.target_instance_projector: Any = copy.deepcopy(instance.projector) if instance else None
        for _, target in self.momentum_pairs():
            target.requires_grad_(False)
        if not self.compares_branches:
            for head in self._heads_without_loss():
                head.requires_grad_(False)

    @property
    def compares_branches(self) -> bool:
        """Return whether a loss compares the two branches; if none does, training does not run the target branch.

        The target follows the online branch in any case. It is then a moving average of the weights with the online
        running statistics, and checkpoints and evaluations are the same.
        """
        return self.distillation is None or self.instance is not None or self.pixel_weight > 0

    @property
    def _has_terms(self) -> bool:
        return self.variance_weight > 0 or self.covariance_weight > 0

    def _heads_without_loss(self) -> list[nn.Module]:
        """Return the heads that have no loss if no loss compares the branches."""
        heads = [self.ppm, self.method, None if self._has_terms else self.projector]
        return [head for head in heads if head is not None]

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return (online, target) modules; a target follows its twin (:mod:`pixpro_d2.modeling.pretrain.momentum`)."""
        pairs: list[tuple[Any, Any]] = [
            (self.backbone, self.target_backbone),
            (self.head, self.target_head),
            (self.projector, self.target_projector),
            (self.instance and self.instance.projector, self.target_instance_projector),
            *self.method.momentum_pairs(),
        ]
        return [(online, target) for online, target in pairs if online is not None]

    def momentum_parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the parameters of the online branch, and their twins in the target, in the same order."""
        pairs = self.momentum_pairs()
        online: list[Tensor] = [parameter.detach() for module, _ in pairs for parameter in module.parameters()]
        return online, [parameter for _, module in pairs for parameter in module.parameters()]

    def reset_target(self) -> None:
        """Make the target an exact copy of the online branch, for a run that starts from loaded weights."""
        for online, target in self.momentum_pairs():
            target.load_state_dict(online.state_dict())

    def move_target(self, momentum: float) -> None:
        """Compute target = momentum * target + (1 - momentum) * online for all parameters.

        Buffers stay, because the target's norms see the views themselves. If training does not run the target, its
        buffers become copies of the online buffers.
        """
        self.has_moved_target = True
        online, target = self.momentum_parameters()
        update_target(online, target, momentum)
        if self.compares_branches:
            return
        pairs = self.momentum_pairs()
        seen = [buffer for module, _ in pairs for buffer in module.buffers()]
        if seen:
            torch._foreach_copy_([buffer for _, module in pairs for buffer in module.buffers()], seen)

    def compare(self, views: Sequence[Tensor], geometry: Any) -> tuple[dict[str, Tensor], dict[str, LevelComparison]]:
        """Compute the losses between two views.

        Args:
            views: two tensors (N, C, H, W), normalised as the backbone expects.
            geometry: position of the views, as the correspondence takes it: a pair of boxes (N, 4), as from
                :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`.

        Returns:
            The losses, and the comparison of each feature. The losses are ``loss_pix_<feature>`` for each feature, in
            training with the terms also ``loss_variance_<feature>`` and ``loss_covariance_<feature>``, and with an
            instance branch ``loss_ins``, with a distillation ``loss_distill_<feature>``. They are weighted so that the
            sum over the features is the mean over the features. In training, a distillation without a loss that
            compares the branches gives no ``loss_pix_<feature>`` and no comparisons.
        """
        online = [self._online(view) for view in views]
        target: list[_Branch] = []
        if self._runs_target:
            with torch.no_grad():
                target = [self._target(view) for view in views]

        losses: dict[str, Tensor] = {}
        comparisons: dict[str, LevelComparison] = {}
        for level in self.in_features:
            with torch.autocast(views[0].device.type, enabled=False):
                terms = self._terms(branch.projections[level] for branch in online)
            if target:
                x = comparisons[level] = self._compare_level(level, online, target, geometry)
                with torch.autocast(views[0].device.type, enabled=False):
                    loss = self.method(level, x.views, (x.positives, x.positives_back))
                losses[f"loss_pix_{level}"] = self.pixel_weight * loss / len(self.in_features)
            losses.update({f"loss_{name}_{level}": term / len(self.in_features) for name, term in terms.items()})
        if self.distillation is not None:
            losses.update(self.distillation(views, [branch.features for branch in online], geometry))
        if self.instance is not None:
            (q0, q1), (k0, k1) = ([branch.instance for branch in side] for side in (online, target))
            with torch.autocast(views[0].device.type, enabled=False):
                loss = self.instance.direction_loss(q0, k1) + self.instance.direction_loss(q1, k0)
            losses["loss_ins"] = self.instance_weight * loss
        return losses, comparisons

    @property
    def _runs_target(self) -> bool:
        return self.compares_branches or not self.training

    def _terms(self, projections: Iterable[Tensor]) -> dict[str, Any]:
        """Return the weighted terms of a level by name, as means over the views; none without weights or in eval mode.

        The terms need two pixels, but an evaluation may have one image of one pixel at a coarse level.
        """
        if not (self._has_terms and self.training):
            return {}
        weights = {"variance": self.variance_weight, "covariance": self.covariance_weight}
        values = zip(*(variance_covariance(view) for view in projections))
        return {name: weight * sum(value) / len(value) for (name, weight), value in zip(weights.items(), values)}

    def _compare_level(
        self, level: str, online: list["_Branch"], target: list["_Branch"], geometry: Any
    ) -> LevelComparison:
        overlaps = view_overlaps(geometry) if self.method.needs_overlap else (None, None)
        first, second = (
            LevelView(
                queries=unit(self.ppm[level](o.projections[level]) if self.ppm is not None else o.projections[level]),
                keys=unit(t.projections[level]),
                features=o.features[level],
                target_features=t.features[level],
                projection=o.projections[level],
                target_projection=t.projections[level],
                overlap=overlap,
            )
            for o, t, overlap in zip(online, target, overlaps)
        )
        grids = [(view.queries.shape[-2], view.queries.shape[-1]) for view in (first, second)]
        with torch.no_grad(), torch.autocast(first.queries.device.type, enabled=False):
            positives = self.correspondence(geometry, grids)
        return LevelComparison((first, second), *positives)

    def _online(self, images: Tensor) -> "_Branch":
        features, last = self._features(self.backbone, self.head, images)
        vectors = self.instance.queries(last) if self.instance is not None else None
        projects = bool(features) and (self._runs_target or self._has_terms)
        return _Branch(features, self.projector(features) if projects else {}, vectors)

    def _target(self, images: Tensor) -> "_Branch":
        features, last = self._features(self.target_backbone, self.target_head, images)
        vectors = self.instance.keys(self.target_instance_projector, last) if self.instance is not None else None
        return _Branch(features, self.target_projector(features) if features else {}, vectors)

    def _features(self, backbone: "Backbone", head: nn.Module | None, images: Tensor) -> tuple[dict[str, Tensor], Any]:
        """Return the features with a pixel loss, and the feature of the instance branch (None without the branch)."""
        if self.instance is None:
            features, last = backbone(images), None
        else:
            features, last = forward_with_last(backbone, images)
        features = {level: features[level] for level in self.in_features}
        return (features if head is None else head(features)), last


@dataclass(frozen=True)
class _Branch:
    """Hold one view in one branch: features and projections by level, and the instance branch's vectors (N, C)."""

    features: dict[str, Tensor]
    projections: dict[str, Tensor]
    instance: Any  # a tensor, or None without an instance branch
