"""Loading MODEL.WEIGHTS and the errors, on real models."""

import argparse
import os
import pickle
import re
from collections import Counter

import numpy as np
import pytest
import torch
import torchvision
from checkpoint_helpers import save_pretraining
from data_helpers import logged
from detectron2.modeling import build_backbone, build_model
from torchvision.models.feature_extraction import create_feature_extractor

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.utils.errors import UsageError

DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"


def build(config="pretrain/quickstart.yaml", *opts):
    return build_model(configs.tiny(*opts, config=config))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return save_pretraining(tmp_path_factory.mktemp("pretrained"))


def test_a_pyramid_of_other_width_is_named_with_its_key(pretrained, caplog):
    model, path = pretrained
    width = model.backbone.fpn_output3.out_channels
    line = initialize(build(DETECTOR, "MODEL.FPN.OUT_CHANNELS", 2 * width), path).summary
    assert "of another shape: backbone.fpn_" in line and "pyramid (" not in line
    assert f"has {width} channels, the model's has {2 * width} and keeps random weights" in caplog.text
    assert caplog.text.count(f"set MODEL.FPN.OUT_CHANNELS {width} to load the pyramid") == 1
    caplog.clear()
    initialize(build(DETECTOR), path)
    assert "OUT_CHANNELS" not in caplog.text


def test_detector_takes_a_pretraining_checkpoint_and_says_so_in_one_line(pretrained):
    model, path = pretrained
    detector = build(DETECTOR)
    line = initialize(detector, path).summary
    own, theirs = detector.state_dict(), model.state_dict()
    shared = [name for name in own if name.startswith("backbone.") and name in theirs]
    assert len(shared) > 100 and all(torch.equal(own[name], theirs[name]) for name in shared)
    assert line.startswith("Backbone: 20 of 20 convolutions") and path in line
    counts = Counter(name.split(".")[0] for name, _ in detector.named_parameters() if not name.startswith("backbone."))
    absent = ", ".join(f"{part} ({count})" for part, count in counts.items())
    assert line.endswith(f"Not in the file: {absent}.")
    for module in ("projector (9)", "ppm (2)", "target_backbone (", "target_projector (9)"):
        assert module in line


def test_weights_without_a_backbone_are_an_error(tmp_path):
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    words = r"no known format, holds no weight.*fc\.weight.*backbone\.bottom_up\.stem.*; save the state dict of the"
    with pytest.raises(UsageError, match=words):
        initialize(build(DETECTOR), str(tmp_path / "other.pth"))


def test_partial_weights_are_an_error_unless_allowed(pretrained, tmp_path):
    model, _ = pretrained
    state = {name: value for name, value in model.state_dict().items() if ".res5." not in name}
    path = str(tmp_path / "partial.pth")
    torch.save({"model": state}, path)
    with pytest.raises(UsageError, match=r"only \d+ of the backbone's \d+ weights.*res5.*ALLOW_PARTIAL_WEIGHTS"):
        initialize(build(DETECTOR), path)
    assert "15 of 20 convolutions" in initialize(build(DETECTOR), path, allow_partial=True).summary


def test_another_depth_is_an_error(pretrained):
    _, path = pretrained
    with pytest.raises(UsageError, match=rf"WEIGHTS {path} is a ResNet-18 .* ResNet-34: set MODEL.RESNETS.DEPTH 18.$"):
        initialize(build(DETECTOR, "MODEL.RESNETS.DEPTH", 34), path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04 truncated zip"])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="broken.pth is not a readable checkpoint"):
        initialize(build(), str(path))


def test_truncated_checkpoint_is_named(pretrained, tmp_path):
    _, path = pretrained
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        (tmp_path / "cut.pth").write_bytes(file.read(size // 2))
    with pytest.raises(UsageError, match="cut.pth is not a readable checkpoint"):
        initialize(build(), str(tmp_path / "cut.pth"))


def test_missing_file_is_named():
    with pytest.raises(UsageError, match="There is no checkpoint .*no/such.pth"):
        initialize(build(), "no/such.pth")


@pytest.mark.parametrize(
    "address, reason",
    [
        ("http://127.0.0.1:9/weights.pth", "refused"),
        ("http://127.0.0.1:port/weights.pth", "port"),
        ("catalog://no/such/model", "catalog"),
    ],
)
def test_an_address_that_cannot_be_reached_is_named(address, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    sentence = rf"WEIGHTS {address} cannot be downloaded \(.*{reason}.*\): check the address"
    with pytest.raises(UsageError, match=sentence):
        initialize(torch.nn.Linear(1, 1), address)


def test_weights_that_are_not_finite_are_an_error(pretrained, tmp_path):
    model, path = pretrained
    state = dict(model.state_dict(), **{"projector.heads.shared.0.weight": torch.tensor(float("nan"))})
    path = str(tmp_path / "nan.pth")
    torch.save({"model": state}, path)
    initialize(build(DETECTOR), path)  # of which the detector takes nothing
    name = "backbone.bottom_up.res2.0.conv1.norm.running_var"
    torch.save({"model": {**state, name: torch.full((64,), float("inf"))}}, path)
    with pytest.raises(UsageError, match=rf"{path} has infinite or NaN values in 1 of \d+ tensors \({name}"):
        initialize(build(DETECTOR), path)


def caffe2_r18(model):
    """The online backbone in the naming of detectron2's model zoo pickles with matching heuristics."""
    prefix = "backbone.bottom_up."
    state = {name.removeprefix(prefix): v.numpy() for name, v in model.state_dict().items() if name.startswith(prefix)}
    return {"model": state, "__author__": "someone", "matching_heuristics": True}


def test_warm_start_from_a_pickle_does_not_trip_over_the_target_branch(pretrained, tmp_path):
    model, _ = pretrained
    with open(tmp_path / "R-18.pkl", "wb") as file:
        pickle.dump(caffe2_r18(model), file)
    other = build()
    before = other.target_backbone.bottom_up.stem.conv1.weight.clone()
    initialize(other, str(tmp_path / "R-18.pkl"))
    weight = other.backbone.bottom_up.stem.conv1.weight
    assert torch.equal(weight, model.backbone.bottom_up.stem.conv1.weight)
    assert torch.equal(other.target_backbone.bottom_up.stem.conv1.weight, before)
    other.reset_target()
    assert torch.equal(other.target_backbone.bottom_up.stem.conv1.weight, weight)


def test_an_evaluation_refuses_weights_that_leave_some_random(pretrained, tmp_path):
    """A backbone alone in a detector, a detector of other classes, a norm without its statistics."""
    _, path = pretrained
    detector = build(DETECTOR)
    with pytest.raises(UsageError) as error:
        initialize(detector, path, complete=True)
    heads = [name for name in detector.state_dict() if not name.startswith("backbone.")]
    rpn, roi = (sum(name.startswith(part) for name in heads) for part in ("proposal_generator.", "roi_heads."))
    assert f"MODEL.WEIGHTS {path} would leave {rpn + roi} of the model's" in str(error.value)
    assert f"(proposal_generator {rpn} of {rpn}, roi_heads {roi} of {roi}; it has no" in str(error.value)
    PixProCheckpointer(detector, str(tmp_path)).save("model_final", iteration=1)
    path = str(tmp_path / "model_final.pth")
    initialize(build(DETECTOR), path, complete=True)
    other = build(DETECTOR, "MODEL.ROI_HEADS.NUM_CLASSES", 7)
    with pytest.raises(UsageError, match=r"leave 4 of .*roi_heads 4 of .*cls_score.weight has another shape there\)"):
        initialize(other, path, complete=True)
    state = detector.state_dict()
    torch.save({"model": {n: v for n, v in state.items() if n != "backbone.fpn_output3.norm.running_var"}}, path)
    with pytest.raises(
        UsageError, match=r"leave 1 of .*pyramid 1 of .*it has no backbone.fpn_output3.norm.running_var"
    ):
        initialize(build(DETECTOR), path, complete=True)


C5 = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"]]
C5 += ["MODEL.PIXPRO.IN_FEATURES", ["res5"], "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0]


class Trunk(torch.nn.Module):
    """A backbone with all its stages, as any model holds it."""

    def __init__(self, depth):
        super().__init__()
        stages = ["res2", "res3", "res4", "res5"]
        width = 64 if depth < 50 else 256
        opts = ["MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.RES2_OUT_CHANNELS", width]
        opts += ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", stages]
        self.backbone = build_backbone(configs.tiny(*opts))


def with_statistics(model):
    """Give a model's batch norms statistics of their own, as if it had been trained."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5, generator=generator)
        elif "running_mean" in name:
            buffer.uniform_(-0.1, 0.1, generator=generator)
        elif "num_batches" in name:
            buffer.fill_(7)
    return model.eval()


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_torchvision_weights_give_torchvisions_features(depth, tmp_path):
    torch.manual_seed(0)
    theirs = with_statistics(getattr(torchvision.models, f"resnet{depth}")())
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = Trunk(depth).eval()
    line = initialize(ours, str(tmp_path / "resnet.pth"), convention=TORCHVISION).summary
    x = torch.randn(2, 3, 64, 96)
    expected = create_feature_extractor(theirs, {f"layer{n}": f"res{n + 1}" for n in (1, 2, 3, 4)})(x)
    for name, feature in ours.backbone(x).items():
        assert feature.std() > 0.01
        torch.testing.assert_close(feature, expected[name], atol=1e-5, rtol=1e-5)
    assert "(torchvision or timm ResNet). Tensors skipped: fc (2)." in line


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Checkpoint of the official code's shape, with the options that it saves, of a ResNet-18."""
    torch.manual_seed(1)
    parts = {name: with_statistics(torchvision.models.resnet18()).state_dict() for name in ("encoder", "encoder_k")}
    model = {
        f"module.{part}.{name}": value
        for part, state in parts.items()
        for name, value in state.items()
        if not name.startswith("fc.")
    }
    for head, inputs in (("projector", 512), ("projector_k", 512), ("projector_instance", 512), ("predictor", 16)):
        model.update(
            {
                f"module.{head}.linear1.weight": torch.randn(32, inputs, 1, 1),
                f"module.{head}.bn1.weight": torch.randn(32),
                f"module.{head}.linear2.weight": torch.randn(16, 32, 1, 1),
            }
        )
    model["module.value_transform.weight"] = torch.randn(16, 16, 1, 1)
    path = tmp_path_factory.mktemp("official") / "current.pth"
    torch.save({"opt": argparse.Namespace(arch="resnet18"), "model": model, "epoch": 100}, path)
    return model, str(path)


def test_pretraining_starts_from_an_official_checkpoint(official):
    theirs, path = official
    model = build("pretrain/quickstart.yaml", *C5)
    line = initialize(model, path).summary
    state = model.state_dict()
    for name, their_name in {
        "backbone.res3.0.shortcut.norm.running_var": "encoder.layer2.0.downsample.1.running_var",
        "target_backbone.res5.1.conv2.weight": "encoder_k.layer4.1.conv2.weight",
        "projector.heads.shared.0.weight": "projector.linear1.weight",
        "target_projector.heads.shared.3.weight": "projector_k.linear2.weight",
        "ppm.heads.shared.value_transform.0.weight": "value_transform.weight",
        "instance.projector.1.weight": "projector_instance.bn1.weight",
        "instance.predictor.0.weight": "predictor.linear1.weight",
    }.items():
        assert torch.equal(state[name], theirs[f"module.{their_name}"]), name
    assert "20 of 20 convolutions, 60 of 60 weights" in line
    # The file has only the weights of each head.
    assert "(official PixPro); also projector 3 of 6, ppm 1 of 2, instance 6 of 12. Tensors skipped: nothing." in line


def test_detector_takes_an_official_checkpoint(official):
    theirs, path = official
    detector = build(DETECTOR)
    initialize(detector, path)
    weight = detector.backbone.bottom_up.res4[1].conv1.norm.weight
    assert torch.equal(weight, theirs["module.encoder.layer3.1.bn1.weight"])


def caffe2_name(name):
    """``res2.0.shortcut.norm.bias`` to ``res2_0_branch1_bn_beta``, as in detectron2's MSRA pickles."""
    place, module, norm, leaf = re.fullmatch(r"(stem|res\d\.\d)\.(\w+)(\.norm)?\.(\w+)", name).groups()
    if place == "stem":
        place = "res_conv1" if norm else "conv1"
    else:
        branch = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b"}[module]
        place = f"{place.replace('.', '_')}_{branch}"
    return f"{place}_bn_{ {'weight': 'gamma', 'bias': 'beta'}.get(leaf, leaf) }" if norm else f"{place}_w"


def caffe2_names(model):
    """The trunk and one tensor of the RPN of an R18-FPN detector as Caffe2's Detectron names them."""
    prefix = "backbone.bottom_up."
    trunk = {n.removeprefix(prefix): v.numpy() for n, v in model.state_dict().items() if n.startswith(prefix)}
    state = {caffe2_name(name): value for name, value in trunk.items() if "num_batches" not in name}
    state["conv1_b"] = np.zeros(64, "float32")  # unused, as in detectron2's R-50.pkl
    return {**state, "rpn_cls_logits_w": model.proposal_generator.rpn_head.objectness_logits.weight.detach().numpy()}


def test_caffe2_pickles_fill_trunk_and_heads(tmp_path):
    torch.manual_seed(2)
    detector = with_statistics(build(DETECTOR))
    with open(tmp_path / "R-18.pkl", "wb") as file:
        pickle.dump(caffe2_names(detector), file, protocol=2)
    other = build(DETECTOR)
    line = initialize(other, str(tmp_path / "R-18.pkl")).summary
    expected, state = detector.state_dict(), other.state_dict()
    trunk = [n for n in state if n.startswith("backbone.bottom_up.") and "num_batches" not in n]
    assert len(trunk) == 100
    for name in [*trunk, "proposal_generator.rpn_head.objectness_logits.weight"]:
        assert torch.equal(state[name], expected[name]), name
    assert "(Caffe2 (MSRA, FAIR))" in line


def test_input_convention_is_stored_and_checked(pretrained, tmp_path):
    model, _ = pretrained
    PixProCheckpointer(model, str(tmp_path), convention=TORCHVISION).save("model_final", iteration=1)
    path = str(tmp_path / "model_final.pth")
    assert torch.load(path, weights_only=True)["input"] == TORCHVISION.to_dict()
    initialize(build(DETECTOR), path, convention=TORCHVISION)
    with pytest.raises(UsageError) as error:
        initialize(build(DETECTOR), path, convention=MSRA)
    assert f"MODEL.WEIGHTS {path} was trained with RGB" in str(error.value)
    assert str(error.value).endswith(
        'set INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[123.675, 116.28, 103.53]" MODEL.PIXEL_STD "[58.395, 57.12, 57.375]" '
        "MODEL.RESNETS.STRIDE_IN_1X1 False."
    )


def test_foreign_weights_with_caffe2_defaults_are_an_error(tmp_path):
    """detectron2's default config with torchvision's weights: BGR, no division, stride in the wrong place."""
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match="set INPUT.FORMAT RGB MODEL.PIXEL_MEAN .* MODEL.RESNETS.STRIDE_IN_1X1 False"):
        initialize(Trunk(18), str(tmp_path / "resnet.pth"), convention=MSRA)


def test_an_unknown_convention_is_warned_of(pretrained):
    _, path = pretrained  # saved without
    for convention, count in ((MSRA, 1), (None, 0)):
        with logged("pixpro_d2.checkpoint.initialize") as messages:
            initialize(build(DETECTOR), path, convention=convention)
        assert sum("does not tell its input, and" in text and "INPUT.FORMAT" in text for text in messages) == count


@pytest.mark.parametrize("missing", [".res5.1.conv2.weight", ".res5.1.conv2.norm.running_var"])
def test_frozen_backbones_must_be_covered_with_their_statistics(missing, pretrained, tmp_path):
    model, _ = pretrained
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(missing)}
    path = str(tmp_path / "partial.pth")
    torch.save({"model": state}, path)
    initialize(build(DETECTOR), path, allow_partial=True)
    with pytest.raises(
        UsageError, match=rf"covers only 99 of the backbone's 100.*{missing}.*is frozen and must be covered"
    ):
        initialize(build(DETECTOR), path, allow_partial=True, frozen=True)


def test_frozen_backbones_take_folded_norms_of_caffe2(tmp_path):
    state = caffe2_names(build(DETECTOR))
    folded = {name: value for name, value in state.items() if "running" not in name}
    assert len(folded) == len(state) - 40
    with open(tmp_path / "R-18.pkl", "wb") as file:
        pickle.dump(folded, file)
    initialize(build(DETECTOR), str(tmp_path / "R-18.pkl"), frozen=True)


def test_a_refused_file_leaves_the_model_as_it_was(pretrained, tmp_path):
    state = dict(pretrained[0].state_dict())
    state["projector.heads.shared.0.weight"] = torch.full_like(state["projector.heads.shared.0.weight"], float("nan"))
    torch.save({"model": state}, tmp_path / "nan.pth")
    torch.manual_seed(5)
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match="infinite or NaN"):
        initialize(model, str(tmp_path / "nan.pth"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_report_tells_loaded_and_missing_names(pretrained):
    detector = build(DETECTOR)
    report = initialize(detector, pretrained[1])
    parameters = {name for name, _ in detector.named_parameters()}
    assert report.path == pretrained[1]
    assert report.missing == {name for name in parameters if not name.startswith("backbone.")}
    assert report.loaded & parameters == parameters - report.missing
    assert "backbone.bottom_up.stem.conv1.norm.running_mean" in report.loaded


def test_no_file_leaves_the_random_weights():
    model = torch.nn.Linear(2, 1)
    before = model.weight.clone()
    report = initialize(model, "", complete=True)
    assert torch.equal(model.weight, before)
    assert (report.loaded, report.missing) == (frozenset(), {"weight", "bias"})
    assert report.summary == "MODEL.WEIGHTS is empty: the weights are random."
