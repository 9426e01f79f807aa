"""Feature maps from inside any network, in the form of a detectron2 backbone."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..utils.errors import UsageError
from .probe import check_map, layer_label, probe
from .tokens import tokens_to_map


class Shape(NamedTuple):
    """What is known of a feature, under the name that it has in detectron2's ShapeSpec."""

    channels: int


class LayerFeatures(nn.Module):
    """Run a network on (N, C, H, W) images, and return the outputs of some of its layers by name.

    A copy reads the layers of its own copy of the network. The network's parameters keep their names below ``net``.
    """

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str | int | None],
        in_channels: int,
        image_size: tuple[int, int],
        instance_layer: str | int | None = None,
        patch_size: int | None = None,
    ) -> None:
        """
        Args:
            net: takes (N, in_channels, H, W) float images.
            layers: layers whose output is a feature map (N, C, h, w): paths of modules in ``net``
                (``layer4``, ``features.7.2``), or positions in ``list(net.children())``; None is the network itself.
            in_channels: channels of the images.
            image_size: (height, width) of the images.
            instance_layer: a further layer, or one of ``layers``, whose output may be vectors (N, C), returned as
                (N, C, 1, 1). Its entry is the last of the dict.
            patch_size: makes tokens (N, L, C) a feature map, see :func:`.tokens.tokens_to_map`.

        Attributes:
            in_features: names of ``layers`` in the dict.

        Raises:
            UsageError: for a layer that the network does not have or run, or with an output of another shape.
        """
        super().__init__()
        self.net = net
        self.patch_size = patch_size
        paths = [layer_path(net, layer) for layer in layers]
        self.in_features = [level_name(path) for path in paths]
        if instance_layer is not None:
            path = layer_path(net, instance_layer)
            paths = [x for x in paths if x != path] + [path]
        self._taps = {level_name(path): _Tap(path) for path in paths}
        if len(self._taps) < len(paths):
            raise UsageError(f"The layers {', '.join(paths)} have a name twice: name each layer once.")
        self.attach()
        self._is_probed = False
        try:
            shapes = probe(self, in_channels, image_size)
            for name, shape in shapes.items():
                label, for_instances = layer_label(self._taps[name].path), name not in self.in_features
                check_map(label, shape, image_size, may_be_pooled=for_instances)
        except Exception:
            self.release()
            raise
        self._is_probed = True
        self._output_shape = {name: Shape(channels=shape[1]) for name, shape in shapes.items()}

    def attach(self) -> None:
        """Add the hooks that read the layers, also of layers that have been replaced since."""
        inner = uncompiled(self.net)  # torch.compile's wrapper gets its hooks below, if it has not run yet
        for tap in self._taps.values():
            module = inner.get_submodule(tap.path)
            if tap not in module._forward_hooks.values():
                module.register_forward_hook(tap)

    def release(self) -> None:
        """Remove the hooks from the network."""
        for module in self.net.modules():
            for number, hook in list(module._forward_hooks.items()):
                if hook in self._taps.values():
                    del module._forward_hooks[number]

    def output_shape(self) -> dict[str, Shape]:
        """Return the channels of the features."""
        return self._output_shape

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        for tap in self._taps.values():
            tap.open()
        try:
            self.net(images)
            if not self._is_probed:
                self._check_values()
            if torch.is_grad_enabled():
                self._check_gradients()
            return {name: _as_map(tap, images, self.patch_size) for name, tap in self._taps.items()}
        finally:
            for tap in self._taps.values():
                tap.close()

    def _check_values(self) -> None:
        """Raise a UsageError if the network has changed the output of a layer in place."""
        counted = [tap for tap in self._taps.values() if tap.version is not None]
        changed = next((tap for tap in counted if tap.output._version != tap.version), None)
        if changed is not None:
            raise UsageError(
                f"{layer_label(changed.path)} gives an output that the network changes in place afterwards, as "
                "ReLU(inplace=True) and += do: name the layer behind it, or give a network that ends with this layer."
            )

    def _check_gradients(self) -> None:
        """Raise a UsageError if a layer that learns ran without gradient."""
        for tap in self._taps.values():
            if tap.output is None or tap.has_gradient:
                continue
            if any(parameter.requires_grad for parameter in self.net.get_submodule(tap.path).parameters()):
                raise UsageError(
                    f"{layer_label(tap.path)} runs without gradient, as inside a reentrant activation checkpoint, so "
                    "it would not learn: give use_reentrant=False to torch.utils.checkpoint, or freeze the layer."
                )


class _Tap:
    """Hold the output of the layer at ``path`` while open; a forward hook.

    A deep copy of a network copies its hooks. The hook is an object, so that the copied network and the copied
    LayerFeatures share the copied tap.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.close()

    def open(self) -> None:
        """Hold outputs from now on."""
        self.is_open = True

    def close(self) -> None:
        """Forget the output and hold no further outputs."""
        self.is_open = False
        self.output: Any = None
        self.version: int | None = None
        self.has_gradient = False

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self.is_open:
            self.output = output
            self.version = _version(output)
            self.has_gradient = torch.is_grad_enabled()


def _version(output: Any) -> int | None:
    """Return the number of changes in place of a tensor; None if nothing counts them."""
    if torch.compiler.is_compiling() or not torch.is_tensor(output) or output.is_inference():  # in this order
        return None
    return output._version


def _as_map(tap: _Tap, images: Tensor, patch_size: int | None) -> Tensor:
    output = tap.output
    if output is None:
        raise UsageError(
            f"{layer_label(tap.path)} was not run on {tuple(images.shape)} images: name one that the network's forward "
            "calls, and give a network that torch.compile has already run without the compilation."
        )
    if not torch.is_tensor(output):
        raise UsageError(
            f"{layer_label(tap.path)} gives a {type(output).__name__}, not a tensor (N, C, H, W): name a layer "
            "inside it."
        )
    if output.dim() == 3 and patch_size is not None:
        return tokens_to_map(output, (images.shape[2], images.shape[3]), patch_size, layer_label(tap.path))
    return output[:, :, None, None] if output.dim() == 2 else output


def uncompiled(net: nn.Module) -> nn.Module:
    """Return the network inside a torch.compile wrapper, or ``net`` itself."""
    return getattr(net, "_orig_mod", net)


def layer_path(net: nn.Module, layer: str | int | None) -> str:
    """Return the path of the module that ``layer`` (path, position or None) names in ``net``; "" is ``net`` itself."""
    net = uncompiled(net)
    if layer is None:
        return ""
    children = [name for name, _ in net.named_children()]
    if isinstance(layer, int):
        if not -len(children) <= layer < len(children):
            raise UsageError(f"The network has no layer {layer}: it has {len(children)} children, {_list(children)}.")
        return children[layer]
    if not layer or layer not in dict(net.named_modules()):
        raise UsageError(
            f"The network has no layer '{layer}': name one of its children {_list(children)}, or a module below one "
            "by its path."
        )
    return layer


def level_name(path: str) -> str:
    """Return the name of a layer in losses and heads, where a module's name may have no dot."""
    return path.replace(".", "_") or "output"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "(none)"
