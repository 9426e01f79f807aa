"""Tiny networks of timm with distinct random weights, in models, and their weights in the layouts of other code."""

import re

import timm
import torch
from torch import nn

VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}
SIZES = {
    "convnext_atto": {"dims": (8, 8, 16, 16), "depths": (1, 1, 2, 1)},
    "vit_tiny_patch16_224": VIT,
    "vit_small_patch14_dinov2": {**VIT, "img_size": 56},
    "vit_small_patch14_reg4_dinov2": {**VIT, "img_size": 56},
    "vit_small_patch16_dinov3": VIT,
    "swin_tiny_patch4_window7_224": {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
}


def build(name, seed=0, **options):
    """Build a small form of a network, in which every tensor has values of its own."""
    torch.manual_seed(seed)
    options = {"num_classes": 0, **SIZES.get(name, {}), **options}
    return randomize(timm.create_model(name, pretrained=False, **options))


def randomize(network):
    """Fill every tensor of a network with distinct values."""
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if key.endswith("running_var") else value.normal_(0, 0.1)
    return network


def model_of(network):
    """Return a model with a network where TimmBackbone has it."""
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.net = network
    return model


def official_dinov2(state):
    """Return the layout of DINOv2's release: a mask token, and the class token outside its position embedding."""
    state = dict(state, mask_token=torch.zeros(1, 16))
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
        position = torch.full((1, 1, 16), 0.25)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    return state


def official_dinov3(state):
    """Return the layout of DINOv3's release, whose keys have no bias, but zeros and a mask for it."""
    names = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    renamed = {}
    for name, value in state.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = value
    masks = {f"blocks.{i}.attn.qkv.{leaf}": torch.zeros(48) for i in range(2) for leaf in ("bias", "bias_mask")}
    return {**renamed, **masks, "mask_token": torch.zeros(1, 16), "rope_embed.periods": torch.ones(2)}


def official_convnext(state):
    """Return the layout of ConvNeXt's release."""
    rules = [
        (r"stem\.", "downsample_layers.0."),
        (r"stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"head\.norm\.", "norm."),
        (r"head\.fc\.", "head."),
    ]
    renamed = {}
    for name, value in state.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        renamed[name] = value.flatten(1) if "pwconv" in name and value.ndim == 4 else value
    return renamed


def official_swin(state):
    """Return the layout of Swin's release: a stage ends with the downsampling, and the masks are buffers."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name)
        renamed[name] = value
    return {**renamed, "layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
