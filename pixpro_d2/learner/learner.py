"""The learner: pixel-level pre-training of any PyTorch network in a training loop of the user's own."""

import torch

from ..data.pretrain.views import RATIO
from ..modeling.pretrain.correspondence import BoxCorrespondence
from ..modeling.pretrain.methods import PixProMethod
from ..modeling.pretrain.momentum import momentum_at
from ..modeling.pretrain.monitors import feature_std, pair_counts
from ..modeling.pretrain.two_branch import TwoBranch
from ..utils.errors import UsageError
from ..utils.modules import device_of, eval_mode
from .features import LayerFeatures
from .heads import build_instance_branch, build_method, build_ppm, build_projector
from .probe import check_backbone, empty_images, is_detectron2_backbone
from .views import TwoViews


class PixelLearner(TwoBranch):
    """Pixel-level pre-training (Xie et al., CVPR 2021) of a network, which learns in place::

        learner = PixelLearner(net, "layer4", total_steps=10000)
        loss, info = learner(images)
        loss.backward(); optimizer.step(); learner.update_target(step)

    The network is on its device when the learner is made; its norms notice nothing of that.
    """

    def __init__(
        self,
        net,
        layers=None,
        *,
        in_channels=3,
        image_size=224,
        method="pixpro",
        mean_over="all",
        temperature=0.3,
        pos_ratio=0.7,
        distance_units="normalized",
        hidden_dim=4096,
        out_dim=256,
        norm="BN",
        share_heads=None,
        ppm=None,
        ppm_num_layers=1,
        ppm_gamma=2.0,
        instance_weight=0.0,
        instance_loss="byol",
        instance_layer=None,
        variance_weight=0.0,
        covariance_weight=0.0,
        momentum=0.99,
        total_steps=None,
        min_scale=0.08,
        max_scale=1.0,
        ratio_range=RATIO,
        flip_p=0.5,
        augment="byol",
        mean=None,
        std=None,
    ):
        """
        Args:
            net (nn.Module): takes float images (N, in_channels, H, W).
            layers: layer or layers whose output (N, C, h, w) carries a pixel loss; path of a module or position
                among ``net``'s children, None for the output of ``net`` itself. Of a detectron2 Backbone, names of
                features.
            in_channels (int): of the images.
            image_size (int or tuple[int, int]): side, or (height, width), of the views in pixels.
            method (str or PixelMethod): ``pixpro`` or ``pixcontrast``.
            mean_over (str): ``all`` or ``matched`` images, of ``pixpro``.
            temperature (float): tau of ``pixcontrast`` and ``infonce``.
            pos_ratio (float): threshold T in bin diagonals.
            distance_units (str): ``normalized`` or ``pixel``, see
                :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`.
            hidden_dim, out_dim (int): channels of the heads.
            norm (str): of the heads; a detectron2 norm name.
            share_heads (bool): one projector and PPM for all layers; by default where their channels are equal.
            ppm (bool): whether queries pass the pixel propagation module; by default those of ``pixpro``.
            ppm_num_layers (int): of its value transform, 0, 1 or 2.
            ppm_gamma (float): its sharpness, > 0.
            instance_weight (float): alpha of the instance loss; 0 builds no instance branch.
            instance_loss (str): ``byol`` or ``infonce``.
            instance_layer: layer of the instance branch, which may give vectors (N, C); the last of ``layers`` by
                default. A detectron2 Backbone's is its last feature.
            variance_weight, covariance_weight (float): weights of two terms against features of few directions, see
                :func:`pixpro_d2.modeling.pretrain.losses.variance_covariance`; 2.0 and 0.08 help short runs.
            momentum (float): of the target; the start of a cosine to 1 if ``total_steps`` is given.
            total_steps (int): optimizer steps of the whole run; None keeps the momentum constant.
            min_scale, max_scale (float): area of the crops as a share of the image, in (0, 1].
            ratio_range (tuple[float, float]): of the crops' width to height.
            flip_p (float): probability of a mirrored view.
            augment, mean, std: see :class:`pixpro_d2.learner.views.TwoViews`.

        Raises:
            UsageError: for options that do not fit each other or the network.
        """
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        layers = list(layers) if isinstance(layers, (list, tuple)) else [layers]
        has_instance = instance_weight > 0
        if is_detectron2_backbone(net):
            backbone, in_features = net, layers
            check_backbone(net, layers, instance_layer, in_channels, size)
        else:
            last = layers[-1] if instance_layer is None else instance_layer
            backbone = LayerFeatures(net, layers, in_channels, size, last if has_instance else None)
            in_features = backbone.in_features
        channels = {name: backbone.output_shape()[name].channels for name in in_features}
        method = build_method(method, mean_over, temperature)
        projector = build_projector(channels, hidden_dim, out_dim, norm, share_heads)
        propagation = instance = None
        if isinstance(method, PixProMethod) if ppm is None else ppm:
            propagation = build_ppm(in_features, out_dim, ppm_num_layers, ppm_gamma, norm, projector.shared)
        if has_instance:
            instance = build_instance_branch(backbone, hidden_dim, out_dim, instance_loss, temperature, norm)
        super().__init__(
            backbone=backbone,
            in_features=in_features,
            projector=projector,
            method=method,
            correspondence=BoxCorrespondence(pos_ratio),
            ppm=propagation,
            instance=instance,
            instance_weight=instance_weight,
            variance_weight=variance_weight,
            covariance_weight=covariance_weight,
        )
        self.momentum = momentum
        self.total_steps = total_steps
        crop = dict(min_scale=min_scale, max_scale=max_scale, ratio_range=ratio_range, flip_p=flip_p)
        self.views = TwoViews(in_channels, size, augment, mean, std, crop, distance_units)
        self.to(device_of(net))

    @property
    def net(self):
        """The network that learns, as it was given."""
        return self.backbone.net if isinstance(self.backbone, LayerFeatures) else self.backbone

    def forward(self, images, generator=None):
        """
        Args:
            images (Tensor): (N, in_channels, H, W) float in [0, 1], of any size, on the network's device.
            generator (torch.Generator): on the CPU, source of all randomness; torch's global one by default.

        Returns:
            tuple: the loss, 0-d, and dict[str, Tensor] of 0-d tensors without a graph, on the device: the
            losses it is the sum of (``loss_pix_<layer>``, ``loss_ins``, ``loss_variance_<layer>``,
            ``loss_covariance_<layer>``), and for each layer ``positive_pairs/<layer>`` per image,
            ``images_without_pair/<layer>`` as a share, ``feature_std/<layer>`` of the projections.
        """
        views, boxes = self.views(images, generator)
        losses, comparisons = self.compare(views, boxes)
        info = {name: loss.detach() for name, loss in losses.items()}
        for level, x in comparisons.items():
            info[f"positive_pairs/{level}"], info[f"images_without_pair/{level}"] = pair_counts(x.positives)
            info[f"feature_std/{level}"] = feature_std(x.projection)
        return sum(losses.values()), info

    def update_target(self, step=None):
        """Move the target towards the online branch; call it after each step of the optimizer.

        Args:
            step (int): number of the optimizer's step, from 0; only needed with ``total_steps``.
        """
        momentum = self.momentum
        if self.total_steps is not None:
            if step is None:
                raise UsageError("update_target needs the number of the step, because total_steps was given.")
            momentum = momentum_at(step + 1, self.total_steps, self.momentum)
        self.move_target(momentum)

    def freeze_unused(self):
        """Fix the parameters of the network that the chosen layers do not depend on, such as a classifier's.

        Returns:
            list[str]: their names. DistributedDataParallel then needs no ``find_unused_parameters``.
        """
        trained = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        with eval_mode(self):
            images = empty_images(self.net, self.views.in_channels, self.views.size)
            features, last = self._features(self.backbone, self.head, images)
        outputs = [*features.values()] if last is None else [*features.values(), last]
        total = sum(output.float().sum() for output in outputs)
        gradients = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
        unused = [name for name, gradient in zip(trained, gradients) if gradient is None]
        for name in unused:
            trained[name].requires_grad_(False)
        return unused
