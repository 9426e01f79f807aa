"""Online and target branch, and the losses between two views; independent of detectron2's configs and loaders."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbone import forward_with_last
from .losses import variance_covariance
from .methods import LevelView
from .momentum import update_target
from .unit import unit


@dataclass(frozen=True)
class LevelComparison:
    """What a level was compared by: both ``views`` (LevelView), the first one's ``projection`` (N, C, H, W), and the
    masks of ``positives`` (N, L0, L1) from the first view to the second, and ``positives_back`` (N, L1, L0)."""

    views: tuple
    projection: Tensor
    positives: Tensor
    positives_back: Tensor


class TwoBranch(nn.Module):
    """Two views through two branches.

    Online branch: backbone - dense head (optional) - projector - PPM (optional) - L2. Target branch: momentum copies
    of the first three - L2; without gradient, in train mode, with running statistics of their own. The two
    views go through each branch one after the other, so that a batch norm sees one view at a time (official code).
    """

    def __init__(
        self,
        *,
        backbone,
        in_features,
        projector,
        method,
        correspondence,
        head=None,
        ppm=None,
        instance=None,
        instance_weight=1.0,
        pixel_weight=1.0,
        variance_weight=0.0,
        covariance_weight=0.0,
    ):
        """
        Args:
            backbone (nn.Module): images (N, C, H, W) to dict[str, Tensor] of feature maps, with detectron2's
                ``output_shape()``.
            in_features (list[str]): features that carry a pixel loss; none with an instance branch only.
            projector (LevelHeads or None): a projector for each of them.
            method (PixelMethod): the pixel loss.
            correspondence (Callable): ``correspondence(geometry, grids)`` gives the positives of a level, as that of
                :class:`pixpro_d2.modeling.pretrain.correspondence.BoxCorrespondence`.
            head (nn.Module or None): dict of features to dict of features, between backbone and projector.
            ppm (LevelHeads or None): a pixel propagation module for each feature.
            instance (InstanceBranch or None): on the last of the bottom-up network's features.
            instance_weight (float): alpha.
            pixel_weight (float): weight of the method's loss.
            variance_weight, covariance_weight (float): weights of the two terms of
                `losses.variance_covariance` on the online projections; 0 computes none.
        """
        super().__init__()
        self.backbone = backbone
        self.in_features = list(in_features)
        self.head = head
        self.projector = projector
        self.ppm = ppm
        self.method = method
        self.correspondence = correspondence
        self.instance = instance
        self.instance_weight = instance_weight
        self.pixel_weight = pixel_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight

        self.target_backbone = copy.deepcopy(backbone)
        self.target_head = copy.deepcopy(head)
        self.target_projector = copy.deepcopy(projector)
        self.target_instance_projector = copy.deepcopy(instance.projector) if instance else None
        for _, target in self.momentum_pairs():
            target.requires_grad_(False)

    def momentum_pairs(self):
        """(online, target) modules; each target follows its twin (:mod:`pixpro_d2.modeling.pretrain.momentum`)."""
        pairs = [
            (self.backbone, self.target_backbone),
            (self.head, self.target_head),
            (self.projector, self.target_projector),
            (self.instance and self.instance.projector, self.target_instance_projector),
            *self.method.momentum_pairs(),
        ]
        return [(online, target) for online, target in pairs if online is not None]

    def reset_target(self):
        """Make the target an exact copy of the online branch, for a run that starts from loaded weights."""
        for online, target in self.momentum_pairs():
            target.load_state_dict(online.state_dict())

    def move_target(self, momentum):
        """target = momentum * target + (1 - momentum) * online, for all parameters; buffers stay."""
        pairs = self.momentum_pairs()
        online = [parameter.detach() for module, _ in pairs for parameter in module.parameters()]
        target = [parameter for _, module in pairs for parameter in module.parameters()]
        update_target(online, target, momentum)

    def compare(self, views, geometry):
        """Losses between two views.

        Args:
            views (Sequence[Tensor]): two of (N, C, H, W), normalised as the backbone expects.
            geometry: where the views lie, as the correspondence takes it: a pair of boxes (N, 4), as from
                :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`.

        Returns:
            tuple: (dict[str, Tensor], dict[str, LevelComparison]). The first has ``loss_pix_<feature>`` for each
            feature, with the terms also ``loss_variance_<feature>`` and ``loss_covariance_<feature>``, weighted so
            that their sum is the mean over the features, and ``loss_ins``; the second what was compared, by feature.
        """
        online = [self._online(view) for view in views]
        with torch.no_grad():
            target = [self._target(view) for view in views]

        losses, comparisons = {}, {}
        for level in self.in_features:
            x = comparisons[level] = self._compare_level(level, online, target, geometry)
            with torch.autocast(views[0].device.type, enabled=False):
                loss = self.method(level, x.views, (x.positives, x.positives_back))
                terms = self._terms([branch.projections[level] for branch in online])
            losses[f"loss_pix_{level}"] = self.pixel_weight * loss / len(self.in_features)
            losses.update({f"loss_{name}_{level}": term / len(self.in_features) for name, term in terms.items()})
        if self.instance is not None:
            (q0, q1), (k0, k1) = ([branch.instance for branch in side] for side in (online, target))
            loss = self.instance.direction_loss(q0, k1) + self.instance.direction_loss(q1, k0)
            losses["loss_ins"] = self.instance_weight * loss
        return losses, comparisons

    def _terms(self, projections):
        """Weighted terms of a level by name, as means over the views' ``projections``; none without weights."""
        weights = {"variance": self.variance_weight, "covariance": self.covariance_weight}
        if not any(weights.values()):
            return {}
        values = zip(*(variance_covariance(view) for view in projections))
        return {name: weight * sum(value) / len(value) for (name, weight), value in zip(weights.items(), values)}

    def _compare_level(self, level, online, target, geometry):
        views = tuple(
            LevelView(
                queries=unit(self.ppm[level](o.projections[level]) if self.ppm is not None else o.projections[level]),
                keys=unit(t.projections[level]),
                features=o.features[level],
                target_features=t.features[level],
            )
            for o, t in zip(online, target)
        )
        grids = [view.queries.shape[-2:] for view in views]
        with torch.no_grad(), torch.autocast(views[0].queries.device.type, enabled=False):
            positives = self.correspondence(geometry, grids)
        return LevelComparison(views, online[0].projections[level], *positives)

    def _online(self, images):
        features, last = self._features(self.backbone, self.head, images)
        vectors = self.instance.queries(last) if self.instance is not None else None
        return _Branch(features, self.projector(features) if features else {}, vectors)

    def _target(self, images):
        features, last = self._features(self.target_backbone, self.target_head, images)
        vectors = self.instance.keys(self.target_instance_projector, last) if self.instance is not None else None
        return _Branch(features, self.target_projector(features) if features else {}, vectors)

    def _features(self, backbone, head, images):
        """Features with a pixel loss, and the one of the instance branch (None without it)."""
        if self.instance is None:
            features, last = backbone(images), None
        else:
            features, last = forward_with_last(backbone, images)
        features = {level: features[level] for level in self.in_features}
        return (features if head is None else head(features)), last


@dataclass(frozen=True)
class _Branch:
    """One view in one branch: dicts of features and projections by level, and the instance branch's vectors (N, C)."""

    features: dict
    projections: dict
    instance: Tensor
