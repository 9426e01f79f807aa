"""Networks of timm in real models: from timm's file to a pre-training, to a detector, to its evaluation, and out."""

import pytest
import timm
import torch
from detectron2.modeling import build_model
from timm_helpers import randomize

import configs
from pixpro_d2.checkpoint import InputConvention, PixProCheckpointer
from pixpro_d2.checkpoint.conversion import convert
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.checkpoint.plain_backbone import TIMM_FILE, write_plain_backbone
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.utils.errors import UsageError

DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"
HALVES = ["MODEL.PIXEL_MEAN", [127.5] * 3, "MODEL.PIXEL_STD", [127.5] * 3]


def options(name, *opts):
    inputs = HALVES if name.startswith("vit") else []
    return ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", name, *inputs, *opts]


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_timms_file_trains_a_pyramid_that_a_detector_takes_whole(name, tmp_path):
    theirs = randomize(timm.create_model(name)).state_dict()
    torch.save({"state_dict": theirs}, tmp_path / "timm.pth")
    cfg = configs.tiny(*options(name))
    convention = InputConvention.from_config(cfg)
    model = build_model(cfg)
    loaded = initialize(model, str(tmp_path / "timm.pth"), convention=convention)
    network = model.backbone.bottom_up.net
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
    trunk = {key for key in dict(model.named_parameters()) if key.startswith("backbone.bottom_up.")}
    assert trunk <= loaded.loaded and f"{len(trunk)} of {len(trunk)} weights loaded" in loaded.summary
    assert "pyramid (" in loaded.summary.partition("Not in the file:")[2]
    PixProCheckpointer(model, str(tmp_path), convention=convention).save("pretrained", iteration=1)

    cfg = configs.tiny(*options(name, "MODEL.ROI_HEADS.NUM_CLASSES", 3), config=DETECTOR)
    detector = build_model(cfg)
    line = initialize(detector, str(tmp_path / "pretrained.pth"), convention=convention, frozen=True).summary
    own = {key: value for key, value in model.backbone.state_dict().items() if not key.startswith("top_block")}
    assert all(torch.equal(value, own[key]) for key, value in detector.backbone.state_dict().items() if key in own)
    count = len(dict(detector.backbone.named_parameters())) - len(trunk)
    assert f"also pyramid {count} of {count}" in line and "weights loaded" in line
    with pytest.raises(UsageError, match="would leave .* weights random"):
        initialize(detector, str(tmp_path / "pretrained.pth"), complete=True)
    PixProCheckpointer(detector, str(tmp_path), convention=convention).save("detector", iteration=1)
    again = build_model(cfg)
    assert not initialize(again, str(tmp_path / "detector.pth"), convention=convention, complete=True).missing
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), detector.state_dict().values()))

    out, _ = convert(str(tmp_path / "detector.pth"), str(tmp_path / "out.pth"), "timm")
    plain = read_checkpoint(out)
    assert set(plain) == set(network.state_dict()) and all(torch.equal(plain[key], theirs[key]) for key in plain)
    assert f"timm's {name}: {tmp_path / TIMM_FILE}; load it by" in write_plain_backbone(
        model, convention, str(tmp_path)
    )


def test_frozen_norms_take_the_same_files(tmp_path):
    name = "mobilenetv3_small_050"
    theirs = randomize(timm.create_model(name)).state_dict()
    torch.save(theirs, tmp_path / "timm.pth")
    model = build_model(configs.tiny(*options(name, "MODEL.TIMM.NORM", "FrozenBN"), config=DETECTOR))
    assert initialize(model, str(tmp_path / "timm.pth"), frozen=True).loaded
    own = model.backbone.bottom_up.net.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())


def test_other_features_of_the_same_network_take_the_same_files(tmp_path):
    theirs = randomize(timm.create_model("mobilenetv3_small_050")).state_dict()
    torch.save(theirs, tmp_path / "timm.pth")
    opts = ["MODEL.TIMM.OUT_FEATURES", ["res4"], "MODEL.PIXPRO.IN_FEATURES", ["res4"]]
    model = build_model(
        configs.tiny(*options("mobilenetv3_small_050", *opts), "MODEL.BACKBONE.NAME", "build_timm_backbone")
    )
    assert "Not in the file" in initialize(model, str(tmp_path / "timm.pth"), frozen=True).summary
    own = model.backbone.net.state_dict()
    assert len(own) < len(theirs) - 10 and all(torch.equal(value, theirs[key]) for key, value in own.items())
