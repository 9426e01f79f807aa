"""Recognising checkpoints by names of the shapes that the various code bases write."""

import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION, InputConvention
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.names.resnet import to_detectron2
from pixpro_d2.utils.errors import UsageError

RESNET = torchvision.models.resnet18().state_dict()
RESNET = {name: value for name, value in RESNET.items() if not name.startswith("fc.")}
EXPECTED = {f"backbone.{to_detectron2(name)}" for name in RESNET}
HEAD = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)}


def under(prefix, tensors=RESNET):
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def sequential():
    """``nn.Sequential(*list(resnet.children())[:-1])``"""
    return torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1]).state_dict()


OFFICIAL_HEADS = {
    name: torch.zeros(1)
    for name in ("projector.linear1.weight", "projector_k.bn1.bias", "value_transform.weight", "value_transform.bias")
}
RESEARCH = {
    "official PixPro": (
        {**under("module.encoder."), **under("module.encoder_k."), **under("module.", OFFICIAL_HEADS)},
        {
            "projector.heads.shared.0.weight",
            "target_projector.heads.shared.1.bias",
            "ppm.heads.shared.value_transform.0.weight",
            "ppm.heads.shared.value_transform.0.bias",
        },
    ),
    "PixPro re-implementation": ({**under("module.base_encoder."), **under("module.moment_encoder.")}, set()),
    "MoCo v3": (
        {**under("module.base_encoder."), **under("module.momentum_encoder."), **under("module.predictor.", HEAD)},
        {"predictor.0.weight", "predictor.0.bias"},
    ),
    "MoCo": (
        {
            **under("module.encoder_q."),
            **under("module.encoder_q.fc.", HEAD),
            **under("module.encoder_k."),
            "module.queue": torch.zeros(1),
        },
        {"encoder_q.fc.0.weight", "encoder_q.fc.0.bias", "queue"},
    ),
    "OpenSelfSup (MoCo, DenseCL)": (
        {**under("encoder_q.0."), **under("encoder_q.1.", HEAD), **under("encoder_k.0.")},
        {"encoder_q.1.0.weight", "encoder_q.1.0.bias"},
    ),
    "PixelCL learner": ({**under("online_encoder.net."), **under("target_encoder.net.")}, set()),
    "SimSiam-style": (
        {**under("module.encoder."), **under("module.encoder.fc.", HEAD), **under("module.predictor.", HEAD)},
        {f"{module}.{name}" for module in ("encoder.fc", "predictor") for name in HEAD},
    ),
    "BYOL-style": (
        {**under("backbone."), **under("momentum_backbone."), **under("backbone.fc.", HEAD)},
        {"fc.0.weight", "fc.0.bias"},
    ),
    "torchvision or timm ResNet": ({**RESNET, **under("fc.", HEAD)}, {"fc.0.weight", "fc.0.bias"}),
}


PYTORCH, CAFFE = "style='pytorch'", "depth=50, style='caffe'"


@pytest.mark.parametrize(
    ("config", "convention"),
    [
        (f"{PYTORCH}, mean=[123.675], to_rgb=True", TORCHVISION),
        (f"{CAFFE}, img_norm_cfg = dict(std=[1.0, 1.0, 1.0], to_rgb=False)", MSRA),
        (f"{CAFFE}, data_preprocessor=dict(bgr_to_rgb=False)", MSRA),
        (CAFFE, None),
        (f"{PYTORCH}, to_rgb = False", None),
        ({"style": "caffe"}, TORCHVISION),
    ],
)
@pytest.mark.parametrize("key", ["config", "cfg"])
def test_the_input_of_an_mmdetection_checkpoint(key, config, convention):
    source = recognise({"meta": {key: config}, "state_dict": under("backbone.")}, "epoch_12.pth")
    assert source.convention == convention and set(source.state) == EXPECTED


@pytest.mark.parametrize("name", RESEARCH)
@pytest.mark.parametrize("container", ["model", "state_dict", None])
def test_research_formats(name, container):
    tensors, others = RESEARCH[name]
    source = recognise({container: tensors, "epoch": 3} if container else tensors, "w.pth")
    assert source.format == name and source.convention == TORCHVISION and not source.match_suffixes
    names = set(source.state)
    assert {n for n in names if n.startswith("backbone.")} == EXPECTED
    has_target = any(part in " ".join(tensors) for part in ("encoder_k", "moment", "target_encoder"))
    target = {n for n in names if n.startswith("target_backbone.")}
    assert target == ({f"target_{n}" for n in EXPECTED} if has_target else set())
    assert names - EXPECTED - target == others


@pytest.mark.parametrize(
    "wrapped",
    [
        under("module.", RESNET),
        under("module.module.", RESNET),
        under("_orig_mod.", RESNET),
        under("_orig_mod.module.", RESNET),
        under("module._orig_mod.", RESNET),
        {**under("module.", RESNET), "n_averaged": torch.tensor(3)},  # torch.optim.swa_utils
        {name.replace("layer", "_orig_mod.layer"): value for name, value in RESNET.items()},
        {name.replace("layer1.0.", "layer1.0._checkpoint_wrapped_module."): value for name, value in RESNET.items()},
        {name.replace("layer1.", "layer1._fsdp_wrapped_module."): value for name, value in RESNET.items()},
    ],
)
def test_wrappers_of_modules_are_taken_out_of_names(wrapped):
    source = recognise({"model": wrapped}, "w.pth")
    assert source.format == "torchvision or timm ResNet" and set(source.state) - {"n_averaged"} == EXPECTED


def test_compiled_parts_of_two_branches():
    tensors = {**under("base_encoder._orig_mod."), **under("momentum_encoder.module._orig_mod.")}
    source = recognise(tensors, "w.pth")
    assert source.format == "MoCo v3" and set(source.state) == EXPECTED | {f"target_{n}" for n in EXPECTED}


def test_wrappers_stay_where_names_would_become_the_same():
    names = {"module.a", "a", "module.b"}
    assert set(recognise(dict.fromkeys(names, torch.zeros(1)), "w.pth").state) == names


def test_dinos_full_checkpoint_gives_its_teacher():
    teacher = {name: value + 1 for name, value in RESNET.items()}
    networks = {
        key: {**under("module.backbone.", state), **under("module.head.mlp.", HEAD)}
        for key, state in (("student", RESNET), ("teacher", teacher))
    }
    checkpoint = {**networks, "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}, "epoch": 800, "args": None}
    source = recognise(checkpoint, "w.pth")
    assert source.format == "DINO, its teacher" and source.convention == TORCHVISION
    assert {n for n in source.state if n.startswith("backbone.")} == EXPECTED
    assert source.state["backbone.stem.conv1.norm.weight"].eq(2).all()
    others = {n for n in source.state if not n.startswith("backbone.")}
    assert others == {*under("student.backbone."), *under("student.head.mlp.", HEAD), *under("teacher.head.mlp.", HEAD)}


@pytest.mark.parametrize(
    ("student", "teacher"), [("student_backbone.", "teacher_backbone."), ("student.", "teacher."), ("a.", "b.")]
)
def test_a_teacher_beside_its_student_is_the_backbone(student, teacher):
    source = recognise({"state_dict": {**under(student), **under(teacher)}}, "w.ckpt")
    known = student != "a."
    assert set(source.state) == {*under(student), *(EXPECTED if known else under(teacher))}
    assert bool(source.format and "its teacher" in source.format) == known


def test_vissls_nested_checkpoint():
    network = {"trunk": under("_feature_blocks."), "heads": under("0.clf.", HEAD)}
    checkpoint = {"classy_state_dict": {"base_model": {"model": network, "meters": {}}, "phase_idx": 3}, "iteration": 1}
    source = recognise(checkpoint, "w.torch")
    assert source.format == "VISSL" and source.convention == TORCHVISION
    assert set(source.state) == EXPECTED | set(under("heads.0.clf.", HEAD))


@pytest.mark.parametrize("prefix", ["model.", "backbone.0.body.", "student.encoder."])
def test_the_only_resnet_of_a_file_is_taken_whatever_its_name(prefix):
    source = recognise({"state_dict": {**under(prefix), **under("head.", HEAD)}}, "w.ckpt")
    assert source.format == f"ResNet below {prefix}" and set(source.state) == EXPECTED | set(under("head.", HEAD))
    two = recognise({**under(prefix), **under("another.")}, "w.ckpt")
    assert two.format is None and set(two.state) == {*under(prefix), *under("another.")}


def test_weights_for_grey_images_do_not_tell_their_mean():
    grey = {**RESNET, "conv1.weight": RESNET["conv1.weight"].mean(dim=1, keepdim=True)}
    assert recognise(grey, "w.pth").convention is None
    convention = InputConvention("L", (120.0,), (60.0,), None)
    assert recognise({"model": grey, "input": convention.to_dict()}, "w.pth").convention == convention


def test_values_come_along_unchanged_and_from_the_online_branch():
    tensors = {"module.encoder_q.bn1.weight": torch.full((64,), 2.0), **under("module.encoder_k.")}
    tensors = {**under("module.encoder_q."), **tensors}
    state = recognise({"state_dict": tensors}, "w.pth").state
    assert state["backbone.stem.conv1.norm.weight"] is tensors["module.encoder_q.bn1.weight"]
    assert state["target_backbone.stem.conv1.norm.weight"] is tensors["module.encoder_k.bn1.weight"]


def test_classifiers_of_two_branches_are_no_parts_of_them():
    tensors = {"backbone.fc.bias": torch.zeros(1), "target_backbone.fc.bias": torch.zeros(1)}
    source = recognise({**under("backbone."), **under("target_backbone."), **tensors}, "w.pth")
    assert set(source.state) == EXPECTED | {f"target_{n}" for n in EXPECTED} | {"fc.bias", "target_fc.bias"}


def test_no_tensor_is_lost_to_another_of_the_same_name():
    tensors = {"backbone.fc.bias": torch.zeros(1), "fc.bias": torch.ones(1)}
    state = recognise({**under("backbone."), **tensors}, "w.pth").state
    assert state["backbone.fc.bias"] == 0 and state["fc.bias"] == 1


def test_openselfsup_prefers_its_backbone_and_keeps_the_copy_apart():
    tensors = {**under("backbone."), **under("encoder_q.0."), **under("encoder_k.0.")}
    source = recognise(tensors, "w.pth")
    assert source.format.startswith("OpenSelfSup")
    assert set(source.state) == EXPECTED | {f"target_{n}" for n in EXPECTED} | set(under("encoder_q.0."))


@pytest.mark.parametrize(
    "prefix, name",
    [("backbone.", "BYOL-style"), ("encoder.", "SimSiam-style"), ("module.f.", "ResNet below f."), ("model.0.",) * 2],
)
def test_sequences_of_a_resnets_children(prefix, name):
    source = recognise({"state_dict": under(prefix, sequential())}, "w.pth")
    assert source.format.endswith(name) and set(source.state) == EXPECTED


def test_a_resnet_beside_a_sequence_of_its_children_is_the_backbone():
    source = recognise(under("resnet.") | under("f.", sequential()), "w.pth")
    assert source.format == "ResNet below resnet." and set(source.state) >= EXPECTED


@pytest.mark.parametrize("prefix", ["", "f."])
def test_a_sequence_without_max_pooling_is_unknown(prefix):
    """Its number 4 is layer2: ResNets for the small images of CIFAR have no max pooling."""
    children = list(torchvision.models.resnet18().children())
    del children[3]
    assert recognise(under(prefix, torch.nn.Sequential(*children).state_dict()), "w.pth").format is None


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_torchvision_fpn(prefix):
    model = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5
    )
    source = recognise({**under(prefix, model.state_dict()), "rpn.head.conv.weight": torch.zeros(1)}, "w.pth")
    pyramid = {
        f"backbone.fpn_{k}{n}.{p}" for k in ("lateral", "output") for n in (2, 3, 4, 5) for p in ("weight", "bias")
    }
    trunk = {n.replace("backbone.", "backbone.bottom_up.") for n in EXPECTED}
    assert source.format == "torchvision FPN" and set(source.state) == trunk | pyramid | {"rpn.head.conv.weight"}


def bare():
    return {name.removeprefix("backbone."): np.zeros(1, "float32") for name in EXPECTED}


@pytest.mark.parametrize(
    "author, convention", [("PixPro", TORCHVISION), ("MOCO", TORCHVISION), ("torchvision", TORCHVISION), ("me", None)]
)
def test_converted_pickles(author, convention):
    model = {**bare(), "stem.fc.weight": np.zeros(1, "float32")}
    source = recognise({"model": model, "__author__": author, "matching_heuristics": True}, "w.pkl")
    assert source.format == f"detectron2 weights by {author}" and source.convention == convention
    assert set(source.state) == EXPECTED | {"stem.fc.weight"} and source.match_suffixes
    assert all(isinstance(value, torch.Tensor) for value in source.state.values())


def test_bare_names_with_a_pyramid():
    model = {**bare(), "fpn_lateral3.weight": np.zeros(1), "top_block.p6.weight": np.zeros(1)}
    names = set(recognise({"model": model, "__author__": "x"}, "w.pkl").state)
    trunk = {n.replace("backbone.", "backbone.bottom_up.") for n in EXPECTED}
    assert names == trunk | {"backbone.fpn_lateral3.weight", "backbone.top_block.p6.weight"}


def zoo(prefix="backbone.bottom_up.", group=1, mean=0.0, **further):
    names = ("stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv1.weight", "res2.0.conv2.weight")
    tensors = dict.fromkeys(names, torch.ones(4, 4 // group, 3, 3))
    if mean is not None:
        tensors["stem.conv1.norm.running_mean"] = torch.tensor([0, mean])
    tensors["stem.conv1.weight"] = torch.ones(4, 3, 7, 7)
    return {"model": under(prefix, {**tensors, **further}), "__author__": "Detectron2 Model Zoo"}


@pytest.mark.parametrize(
    "checkpoint, convention",
    [
        (zoo(), MSRA),
        (zoo("backbone."), MSRA),  # C4
        (zoo(group=2), None),
        (zoo(mean=0.5), None),
        (zoo(mean=None), None),
        (zoo(**{"stem.conv2.weight": torch.ones(1)}), None),
        ({**zoo(), "__author__": "me"}, None),
    ],
    ids=["FPN", "C4", "ResNeXt", "from scratch", "group norm", "deep stem", "another author"],
)
def test_model_zoo_detectors_keep_their_names_and_have_msras_input(checkpoint, convention):
    source = recognise(checkpoint, "w.pkl")
    assert source.format == f"detectron2 checkpoint by {checkpoint['__author__']}" and not source.match_suffixes
    assert set(source.state) == set(checkpoint["model"]) and source.convention == convention


def test_a_detectron2_model_in_another_module():
    """As the only model of a Lightning module, but not as one of two."""
    model = {n.replace("backbone.", "backbone.bottom_up."): torch.zeros(1) for n in EXPECTED}
    source = recognise({"state_dict": {**under("model.", model), "loss.weight": torch.zeros(1)}}, "w.ckpt")
    assert source.format == "detectron2 checkpoint" and set(source.state) == {*model, "loss.weight"}
    both = {**under("model.", model), **model}
    assert set(recognise({"state_dict": both}, "w.ckpt").state) == set(both)


def test_c4_detectors_give_res5_back_without_the_norm_behind_it():
    names = {n.replace("backbone.res5", "roi_heads.res5") for n in EXPECTED} | {"roi_heads.res5.norm.weight"}
    source = recognise({"model": dict.fromkeys(names, torch.zeros(1))}, "w.pth")
    assert set(source.state) == EXPECTED | {"roi_heads.res5.norm.weight"}


def test_own_checkpoints_keep_their_names_and_tell_their_convention():
    own = dict.fromkeys([*EXPECTED, "target_backbone.res2.0.conv1.weight", "ppm.heads.shared.x"], torch.zeros(1))
    source = recognise({"model": own, "input": MSRA.to_dict()}, "w.pth")
    assert source == type(source)("pixpro_d2 checkpoint", own, MSRA)


def test_own_checkpoints_of_other_networks():
    own = {"backbone.s1.b1.a.weight": torch.zeros(1), "roi_heads.x": torch.zeros(1)}
    grey = InputConvention("L", (1.0,), (1.0,))
    source = recognise({"model": own, "input": grey.to_dict()}, "w.pth")
    assert (source.format, source.state, source.convention) == ("pixpro_d2 checkpoint", own, grey)


def test_own_checkpoints_of_networks_with_torchvisions_names():
    """The network may have further parts, so that a plain ResNet would be another network."""
    own = {**under("backbone."), **under("target_backbone."), "backbone.gates.0.weight": torch.zeros(1)}
    source = recognise({"model": own, "input": TORCHVISION.to_dict()}, "w.pth")
    assert (source.format, source.state.keys()) == ("pixpro_d2 checkpoint", own.keys())


def caffe2(group=1, norm="bn"):
    tensors = {"conv1_w": np.zeros((4, 3, 7, 7)), f"res_conv1_{norm}_s": np.zeros(4), "fc1000_w": np.zeros((2, 2))}
    tensors["conv1_b"] = np.zeros(4)  # as in detectron2's R-50.pkl
    tensors.update({f"res2_0_branch2b_{norm}_s": np.zeros(4), "res2_0_branch2a_w_momentum": np.zeros(4)})
    tensors["res2_0_branch2b_w"] = np.zeros((4, 4 // group, 3, 3))
    return {**tensors, "cfg": "text"}


@pytest.mark.parametrize(
    "checkpoint, convention, folded_norms",
    [
        (caffe2(), MSRA, True),
        (caffe2(group=2), None, True),
        (caffe2(norm="gn"), None, False),
        ({"blobs": caffe2(), "cfg": "text"}, None, True),
    ],
    ids=["MSRA", "ResNeXt", "group norm", "detector"],
)
def test_caffe2_names(checkpoint, convention, folded_norms):
    source = recognise(checkpoint, "R-50.pkl")
    assert source.format.startswith("Caffe2") and source.convention == convention
    assert source.match_suffixes and source.folded_norms == folded_norms
    expected = {"stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv2.weight", "res2.0.conv2.norm.weight"}
    assert set(source.state) == {f"backbone.{name}" for name in expected} | {"fc1000.weight"}


def test_unknown_names_are_kept_for_the_caller_to_judge():
    source = recognise({"model": {"module.a.b": torch.zeros(1)}}, "w.pth")
    assert source.format is None and list(source.state) == ["a.b"]


def test_pycls_names_are_matched_by_suffix():
    source = recognise({"model_state": {"s1.b1.proj.weight": torch.zeros(1)}}, "w.pyth")
    assert source.format is None and source.match_suffixes


@pytest.mark.parametrize(
    "odd, value",
    [
        ("conv1.0.weight", torch.zeros(1)),
        ("layer1.0.se.fc1.weight", torch.zeros(1)),
        ("layer1.0.downsample.1.weight", torch.zeros(4, 4, 1, 1)),
    ],
    ids=["deep stem", "squeeze-excitation", "pooling shortcut"],
)
def test_variants_of_resnet_are_refused(odd, value):
    with pytest.raises(UsageError, match=rf"w.pth holds a variant of ResNet.*\(encoder\.{odd} is in no plain ResNet"):
        recognise(under("module.encoder.", {**RESNET, odd: value}), "w.pth")


@pytest.mark.parametrize(
    "checkpoint, words",
    [
        ({"epoch": 3, "arch": "resnet50"}, "its entries are epoch, arch"),
        ({}, "it is an empty dictionary"),
        ({"gan": {"w": torch.ones(1)}, "critic": {"w": torch.ones(1)}}, "they lie deeper, below gan, critic: save the"),
        ({"state": {"net": {"weights": {"w": torch.ones(1)}}}, "epoch": 1}, "they lie deeper, below state: save the"),
    ],
)
def test_files_without_tensors_are_refused(checkpoint, words):
    with pytest.raises(UsageError, match=f"w.pth holds no weights: {words}"):
        recognise(checkpoint, "w.pth")
