"""Names of weights between pre-training and downstream models, built by detectron2 from this project's configs."""

import pytest
import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint.transfer import candidate_names, fit, match_suffixes, trunk_names


def state(config, *opts):
    return build_model(configs.tiny(*opts, config=config)).state_dict()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("backbone.res5.0.conv1.weight", "roi_heads.res5.0.conv1.weight"),
        ("backbone.bottom_up.res5.0.conv1.weight", "roi_heads.res5.0.conv1.weight"),
        ("backbone.res3.0.conv1.weight", "backbone.bottom_up.res3.0.conv1.weight"),
        ("backbone.bottom_up.res3.0.conv1.weight", "backbone.res3.0.conv1.weight"),
        ("backbone.net.pos_embed", "backbone.bottom_up.net.pos_embed"),
        ("backbone.bottom_up.net.pos_embed", "backbone.net.pos_embed"),
    ],
)
def test_candidate_names(name, expected):
    names = list(candidate_names(name))
    assert names[0] == name and expected in names


def test_names_outside_the_backbone_have_no_other_place():
    assert list(candidate_names("target_backbone.res5.0.conv1.weight")) == ["target_backbone.res5.0.conv1.weight"]


@pytest.mark.slow
def test_c5_checkpoint_fills_all_53_convolutions_of_a_c4_detector():
    pretrained = state("pretrain/pixpro_c5_100ep.yaml")
    detector = state("voc/faster_rcnn_R_50_C4_24k.yaml")
    transfer = fit(pretrained, detector)
    trunk = trunk_names(detector)
    convolutions = [name for name in trunk if detector[name].ndim == 4]
    assert len(convolutions) == 53 and set(trunk) <= set(transfer.state) and not transfer.misshapen
    assert not any("res5.norm" in name for name in trunk) and "roi_heads.res5.norm.weight" in detector
    for name, value in transfer.state.items():
        assert value is pretrained[name.replace("roi_heads.", "backbone.")]
    assert transfer.skipped == [name for name in pretrained if not name.startswith("backbone.")]
    parts = {name.split(".")[0] for name in transfer.skipped}
    assert parts == {"projector", "ppm", "target_backbone", "target_projector"}


@pytest.mark.parametrize(
    "recipe, downstream",
    [
        ("pretrain/quickstart.yaml", "voc/faster_rcnn_R_18_FPN_small.yaml"),
        ("pretrain/pixpro_fpn.yaml", "voc/faster_rcnn_R_50_FPN_24k.yaml"),
    ],
)
def test_fpn_checkpoint_fills_detector_and_its_pyramid_by_name(recipe, downstream):
    pretrained = state(recipe)
    detector = state(downstream)
    transfer = fit(pretrained, detector)
    assert set(trunk_names(detector)) <= set(transfer.state)
    pyramid = {name.split(".")[1] for name in transfer.state if "fpn_" in name}
    assert pyramid == {f"fpn_{kind}{level}" for kind in ("lateral", "output") for level in (3, 4, 5)}


def test_c5_checkpoint_fills_the_network_below_an_fpn():
    opts = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.PIXPRO.IN_FEATURES", ["res5"])
    pretrained = state("pretrain/quickstart.yaml", *opts, "MODEL.RESNETS.OUT_FEATURES", ["res5"])
    detector = state("voc/faster_rcnn_R_18_FPN_small.yaml")
    trunk = trunk_names(detector)
    assert trunk and set(trunk) <= set(fit(pretrained, detector).state)
    assert all(name.startswith("backbone.bottom_up.") for name in trunk)


def test_other_shapes_are_not_loaded():
    model = {"backbone.stem.conv1.weight": torch.zeros(4, 3, 7, 7)}
    transfer = fit({"backbone.stem.conv1.weight": torch.zeros(8, 3, 7, 7)}, model)
    assert transfer.state == {} and transfer.misshapen == ["backbone.stem.conv1.weight"]


def test_a_tower_of_another_detector_is_not_loaded_in_part():
    """The layers of FCOS's towers have the numbers 0, 3, ..., RetinaNet's 0, 2, ...: their layers 6 differ."""
    layer = torch.zeros(2, 2)
    fcos = {f"head.cls_subnet.{i}.weight": layer for i in (0, 3, 6, 9)} | {"head.cls_score.weight": layer}
    retinanet = {f"head.cls_subnet.{i}.weight": layer for i in (0, 2, 4, 6)} | {"head.cls_score.weight": layer}
    result = fit(fcos, retinanet)
    assert list(result.state) == ["head.cls_score.weight"] and set(result.skipped) == set(fcos) - set(result.state)
    assert list(fit(fcos, fcos).state) == list(fcos)


def test_suffixes_find_the_heads_but_neither_backbone_nor_target():
    names = ["backbone.res2.w", "roi_heads.box_head.fc1.w", "head.w", "target_head.fc2.w"]
    model = {name: torch.zeros(1) for name in names}
    checkpoint = {name: torch.ones(1) for name in ("backbone.res2.w", "box_head.fc1.w", "ead.w", "fc2.w", "fc1000.w")}
    matched = match_suffixes(checkpoint, model)
    assert set(matched) == {"backbone.res2.w", "roi_heads.box_head.fc1.w", "ead.w", "fc2.w", "fc1000.w"}


def test_statistics_of_the_trunk_count_on_demand_and_counters_never():
    leaves = ("running_var", "num_batches_tracked", "weight")
    parts = ("backbone.bottom_up.res2", "backbone.fpn_output2", "roi_heads")
    model = [f"{part}.norm.{leaf}" for part in parts for leaf in leaves]
    assert trunk_names(model, with_statistics=True) == [model[0], model[2]]
    assert trunk_names(model) == [model[2]]


def test_every_parameter_of_a_network_of_timm_counts():
    names = ["pos_embed", "cls_token", "blocks.0.ls1.gamma", "blocks.0.attn.qkv.weight"]
    model = [*(f"backbone.bottom_up.net.{name}" for name in names), "backbone.simfp_3.0.weight"]
    assert trunk_names(model) == model[:-1]
