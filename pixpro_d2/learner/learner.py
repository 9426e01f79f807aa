"""The learner: pixel-level pre-training of any PyTorch network in a training loop of the user's own."""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.pretrain.views import RATIO
from ..modeling.pretrain.correspondence import BoxCorrespondence
from ..modeling.pretrain.methods import PixelMethod, PixProMethod
from ..modeling.pretrain.momentum import momentum_at
from ..modeling.pretrain.monitors import feature_std, pair_counts
from ..modeling.pretrain.projector import NormName
from ..modeling.pretrain.slot_heads import MaskedBatchNorm
from ..modeling.pretrain.two_branch import TwoBranch
from ..utils.errors import UsageError
from ..utils.modules import device_of, eval_mode
from .distillation import build_distillation, build_teacher
from .features import LayerFeatures, uncompiled
from .heads import (
    build_instance_branch,
    build_method,
    build_ppm,
    build_projector,
    check_not_negative,
    check_positive,
)
from .probe import check_backbone, check_copy, empty_images, is_detectron2_backbone
from .views import TwoViews, view_size


class PixelLearner(TwoBranch):
    """Pre-train a network in place on the level of pixels (Xie et al., CVPR 2021).

        learner = PixelLearner(net, "layer4", total_steps=10000)
        loss, info = learner(images)
        optimizer.zero_grad(); loss.backward(); optimizer.step(); learner.update_target(step)

    Move the network to its device before you make the learner. The learner runs the network once to find the shapes of
    its features; the network's norms do not change.
    """

    def __init__(
        self,
        net: nn.Module,
        layers: str | int | Sequence[str | int | None] | None = None,
        *,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        patch_size: int | None = None,
        method: str | PixelMethod = "pixpro",
        pixel_weight: float = 1.0,
        mean_over: str = "all",
        temperature: float = 0.3,
        pos_ratio: float = 0.7,
        distance_units: str = "normalized",
        hidden_dim: int = 4096,
        out_dim: int = 256,
        norm: NormName = "BN",
        share_heads: bool | None = None,
        ppm: bool | None = None,
        ppm_num_layers: int = 1,
        ppm_gamma: float = 2.0,
        instance_weight: float = 0.0,
        instance_loss: str = "byol",
        instance_layer: str | int | None = None,
        variance_weight: float = 0.0,
        covariance_weight: float = 0.0,
        teacher: nn.Module | None = None,
        teacher_mean: Sequence[float] | None = None,
        teacher_std: Sequence[float] | None = None,
        teacher_patch_size: int | None = None,
        distill_weight: float = 1.0,
        distill_view: str = "other",
        distill_loss: str = "cosine",
        momentum: float = 0.99,
        total_steps: int | None = None,
        min_scale: float = 0.08,
        max_scale: float = 1.0,
        ratio_range: tuple[float, float] = RATIO,
        flip_p: float = 0.5,
        augment: str | Sequence[Callable[[Tensor], Tensor]] = "byol",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        """
        Args:
            net: takes float images (N, in_channels, H, W).
            layers: layer or layers whose output (N, C, h, w) carries a pixel loss; path of a module or position
                among ``net``'s children, None for the output of ``net`` itself. For a detectron2 Backbone, names of
                features.
            in_channels: channels of the images.
            image_size: side, or (height, width), of the views in pixels.
            patch_size: side of a vision transformer's patches, for layers that give tokens (N, L, C). The tokens become
                a map; tokens before those of the patches, such as a class token, are skipped.
            method: ``pixpro``, ``pixcontrast`` or an object of your own.
            pixel_weight: weight of the method's loss; 0 if a teacher or another loss is to count alone.
            mean_over: with ``pixpro``, ``all`` or ``matched`` images.
            temperature: tau of ``pixcontrast`` and ``infonce``.
            pos_ratio: threshold T in bin diagonals.
            distance_units: ``normalized`` or ``pixel``, see
                :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`.
            hidden_dim, out_dim: channels of the heads.
            norm: norm of the heads; a detectron2 norm name.
            share_heads: one projector and PPM for all layers; by default if their channels are equal.
            ppm: whether queries pass the pixel propagation module; by default only with ``pixpro``.
            ppm_num_layers: layers of the PPM's value transform, 0, 1 or 2.
            ppm_gamma: sharpness of the PPM, > 0.
            instance_weight: alpha of the instance loss; 0 builds no instance branch.
            instance_loss: ``byol`` or ``infonce``.
            instance_layer: layer of the instance branch, whose output may be vectors (N, C); the last of ``layers`` by
                default. A detectron2 Backbone always uses its last feature.
            variance_weight, covariance_weight: weights of two terms against features of few directions, see
                :func:`pixpro_d2.modeling.pretrain.losses.variance_covariance`; 2.0 and 0.08 help short runs.
            teacher: a frozen network whose features the layers learn: normalised images (N, C, H, W) to a map
                (N, D, h, w). It is put into eval mode, its parameters take no gradient, and it is no part of the
                learner's parameters and state.
            teacher_mean, teacher_std: of the teacher's images in [0, 1]; ImageNet's by default.
            teacher_patch_size: as ``patch_size``, for a teacher that gives tokens.
            distill_weight: weight of the mean of the distillation over the layers.
            distill_view: ``other`` or ``same``, the view that the teacher sees.
            distill_loss: ``cosine`` or ``smooth_l1``, on the teacher's features with standardised channels.
            momentum: momentum of the target; the start of a cosine to 1 if ``total_steps`` is given.
            total_steps: optimizer steps of the whole run; None keeps the momentum constant.
            min_scale, max_scale: area of the crops as a share of the image, in (0, 1].
            ratio_range: range of the crops' ratio of width to height.
            flip_p: probability of a mirrored view.
            augment, mean, std: see :class:`pixpro_d2.learner.views.TwoViews`.

        Raises:
            UsageError: for options that do not fit each other or the network.
        """
        size = view_size(image_size)
        check_positive(temperature=temperature, hidden_dim=hidden_dim, out_dim=out_dim, total_steps=total_steps)
        check_not_negative(
            pos_ratio=pos_ratio,
            pixel_weight=pixel_weight,
            instance_weight=instance_weight,
            variance_weight=variance_weight,
            covariance_weight=covariance_weight,
        )
        if not 0 <= momentum <= 1:
            raise UsageError(f"momentum is {momentum}; it must be between 0 and 1.")
        chosen: list[Any] = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        if not chosen:
            raise UsageError("layers is empty: name a layer, or give None for the output of the network.")
        has_instance = instance_weight > 0
        if is_detectron2_backbone(net):
            backbone: Any = net
            in_features = chosen
            check_backbone(backbone, chosen, instance_layer, in_channels, size)
        else:
            last = chosen[-1] if instance_layer is None else instance_layer
            backbone = LayerFeatures(net, chosen, in_channels, size, last if has_instance else None, patch_size)
            in_features = backbone.in_features
        channels = {name: backbone.output_shape()[name].channels for name in in_features}
        method = build_method(method, mean_over, temperature)
        projector = build_projector(channels, hidden_dim, out_dim, norm, share_heads, method.build_projector)
        propagation = instance = None
        if isinstance(method, PixProMethod) if ppm is None else ppm:
            propagation = build_ppm(in_features, out_dim, ppm_num_layers, ppm_gamma, norm, projector.shared)
        if has_instance:
            instance = build_instance_branch(backbone, hidden_dim, out_dim, instance_loss, temperature, norm)
        crop = dict(min_scale=min_scale, max_scale=max_scale, ratio_range=ratio_range, flip_p=flip_p)
        views = TwoViews(in_channels, size, augment, mean, std, crop, distance_units)
        distillation = None
        if teacher is not None:
            if not set(net.parameters()).isdisjoint(teacher.parameters()):
                raise UsageError("The teacher has parameters of net, which it would freeze: give copy.deepcopy(net).")
            frozen = build_teacher(teacher, views, teacher_mean, teacher_std, teacher_patch_size)
            options = distill_weight, distill_view, distill_loss
            distillation = build_distillation(frozen, channels, hidden_dim, norm, projector.shared, *options)
        elif not (pixel_weight or instance_weight or variance_weight or covariance_weight):
            raise UsageError("pixel_weight is 0, and no other loss has a weight: raise it, or give a teacher.")
        super().__init__(
            backbone=backbone,
            in_features=in_features,
            projector=projector,
            method=method,
            correspondence=BoxCorrespondence(pos_ratio),
            ppm=propagation,
            instance=instance,
            instance_weight=instance_weight,
            pixel_weight=pixel_weight,
            variance_weight=variance_weight,
            covariance_weight=covariance_weight,
            distillation=distillation,
        )
        if uncompiled(self.net) is self.net:
            check_copy(self.target_backbone, self.net, in_channels, size)
        self.momentum = momentum
        self.total_steps = total_steps
        self.views = views
        self.to(device_of(net))

    @property
    def net(self) -> nn.Module:
        """Return the network that learns, the argument ``net``."""
        return self.backbone.net if isinstance(self.backbone, LayerFeatures) else self.backbone

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw two views of each image and compute the loss.

        Args:
            images: (N, in_channels, H, W) float in [0, 1], of any size, on the network's device.
            generator: on the CPU, source of all randomness; torch's global generator by default.

        Returns:
            The loss, 0-d, and 0-d tensors without a graph, on the device: the terms of the loss
            (``loss_pix_<layer>``, ``loss_ins``, ``loss_variance_<layer>``, ``loss_covariance_<layer>``,
            ``loss_distill_<layer>``), and for each layer ``positive_pairs/<layer>`` per image,
            ``images_without_pair/<layer>`` as a share, ``feature_std/<layer>`` of the projections; the latter three are
            missing in training by a teacher alone. In eval mode the loss has no variance and covariance terms.
        """
        net = uncompiled(self.net)
        if self.training and not net.training:
            warnings.warn(
                f"The network {type(net).__name__} is in eval mode, where its norms and dropout do not train: call "
                "learner.train() before the loop.",
                stacklevel=4,  # the caller of the module
            )
        views, boxes = self.views(images, generator)
        losses, comparisons = self.compare(views, boxes)
        info = {name: loss.detach() for name, loss in losses.items()}
        for level, x in comparisons.items():
            info[f"positive_pairs/{level}"], info[f"images_without_pair/{level}"] = pair_counts(x.positives)
            info[f"feature_std/{level}"] = feature_std(x.projection)
        total: Any = sum(losses.values())
        return total, info

    def update_target(self, step: int | None = None) -> None:
        """Move the target towards the online branch; call this after each step of the optimizer.

        Args:
            step: number of the optimizer's step, from 0; only needed with ``total_steps``.
        """
        momentum = self.momentum
        if self.total_steps is not None:
            if step is None:
                raise UsageError("update_target needs the number of the step, because total_steps was given.")
            momentum = momentum_at(step + 1, self.total_steps, self.momentum)
        self.move_target(momentum)

    def freeze_unused(self) -> list[str]:
        """Freeze the parameters of the network that the chosen layers do not depend on, such as a classifier's.

        The network runs in eval mode for this. Parameters without effect in eval mode also count as unused, such as
        those of adapters that merge their weights in it: set their ``requires_grad`` again.

        Returns:
            The names of the frozen parameters. DistributedDataParallel then needs no ``find_unused_parameters``.
        """
        trained = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        with eval_mode(self):
            images = empty_images(self.net, self.views.in_channels, self.views.size)
            features, last = self._features(self.backbone, self.head, images)
        outputs = [*features.values()] if last is None else [*features.values(), last]
        total: Any = sum(output.float().sum() for output in outputs)
        gradients: Sequence[Tensor | None] = [None] * len(trained)
        if total.requires_grad:  # unless all that the layers depend on is frozen
            gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
        unused = [name for name, gradient in zip(trained, gradients) if gradient is None]
        for name in unused:
            trained[name].requires_grad_(False)
        return unused

    def sync_batch_norms(self) -> None:
        """Make all batch norms count over all processes, in place; call this before DistributedDataParallel.

        ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` loses the activations that timm's batch norms include, and
        the hook of a layer that is a batch norm. SlotCon's norms stay, because they count some of their rows only.
        """
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        if "timm" in sys.modules:
            from timm.layers import convert_sync_batchnorm as convert
        masked = {name: norm for name, norm in self.named_modules() if isinstance(norm, MaskedBatchNorm)}
        convert(self)
        for name, norm in masked.items():
            norm.synced = True
            self.set_submodule(name, norm)
        for features in self._features_of_layers():
            features.attach()

    def release(self) -> None:
        """Remove the learner's hooks from the network, which torch.jit.script and pickle cannot hold.

        The learner cannot run afterwards.
        """
        for features in self._features_of_layers():
            features.release()

    def _features_of_layers(self) -> list[LayerFeatures]:
        return [x for x in (self.backbone, self.target_backbone) if isinstance(x, LayerFeatures)]
