"""Pre-training through a one-stage detector's head, and the detectors that take its weights."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.utils.errors import UsageError

SMALL = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 64)
KINDS = ("retinanet", "fcos")
LEVELS = ["p3", "p4", "p5", "p6", "p7"]


def pretraining(kind, *opts):
    return build_model(configs.tiny(*SMALL, *opts, config=f"pretrain/pixpro_fpn_{kind}_head.yaml"))


def views(side=64):
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[10.0, 20, 200, 180], [60, 40, 220, 190]]).expand(2, 2, 4)
    images = torch.randint(0, 256, (2, 2, 3, side, side), generator=generator, dtype=torch.uint8)
    return {"views": images, "boxes": boxes, "image_sizes": torch.tensor([[200, 240]] * 2)}


@pytest.mark.parametrize("kind", KINDS)
def test_both_towers_are_trained_on_every_level(kind):
    torch.manual_seed(0)
    model = pretraining(kind)
    with EventStorage(0):
        losses = model(views())
    assert list(losses) == [f"loss_pix_{level}" for level in LEVELS]
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without and not model.has_unused_parameters
    towers = [p for name, p in model.head.named_parameters() if name.endswith("subnet.0.weight")]
    assert len(towers) == 2 and all(p.grad.abs().sum() > 0 for p in towers)
    names = {id(online): id(target) for online, target in model.momentum_pairs()}
    assert names[id(model.head)] == id(model.target_head) and not any(
        p.requires_grad for p in model.target_head.parameters()
    )


def test_an_image_without_an_object_is_background_for_fcos():
    torch.manual_seed(0)
    model = build_model(configs.tiny(*SMALL, config="coco/fcos_R_50_FPN_1x.yaml")).train()
    one, none = Instances((64, 64)), Instances((64, 64))
    one.gt_boxes, one.gt_classes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])), torch.tensor([3])
    none.gt_boxes, none.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.long)
    shapes = [torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (8, 16, 32, 64)] + [torch.zeros(1, 1, 1, 1)]
    anchors = model.anchor_generator(shapes)
    labels, _ = model.label_anchors(anchors, [none, one, none])
    (alone,), _ = model.label_anchors(anchors, [one])
    assert torch.equal(labels[1], alone) and (alone == 3).any()
    assert (labels[0] == model.num_classes).all() and (labels[2] == model.num_classes).all()
    image = {"image": torch.randint(0, 256, (3, 64, 64)), "height": 64, "width": 64}
    with EventStorage(0):
        losses = model([{**image, "instances": none}, {**image, "instances": none}])
    sum(losses.values()).backward()
    assert losses["loss_fcos_cls"] > 0 and losses["loss_fcos_loc"] == losses["loss_fcos_ctr"] == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_projector_sees_both_towers_side_by_side(kind):
    model = pretraining(kind).eval()
    images = torch.rand(1, 3, 64, 64)
    pyramid = model.backbone(images)
    features = model.head({level: pyramid[level] for level in LEVELS})
    for level in LEVELS:
        expected = torch.cat([model.head.cls_subnet(pyramid[level]), model.head.bbox_subnet(pyramid[level])], 1)
        torch.testing.assert_close(features[level], expected)
    assert model.projector["p3"][0].in_channels == model.head.out_channels == 128


@pytest.mark.parametrize("kind", KINDS)
def test_the_detector_takes_every_tensor_of_the_towers(kind, tmp_path):
    torch.manual_seed(1)
    model = pretraining(kind)
    PixProCheckpointer(model, str(tmp_path)).save("model_final")
    torch.manual_seed(2)
    config = f"coco/{kind}_R_50_FPN_1x.yaml"
    detector = build_model(configs.tiny(*SMALL, config=config))
    line = initialize(detector, str(tmp_path / "model_final.pth")).summary
    # Pyramid: six convolutions with weight and norm, P6 and P7 with weight and bias. Head: all but the layers that
    # predict classes and boxes (and FCOS' centerness), with weight and bias.
    counts = "head 32 of 38" if kind == "fcos" else "head 16 of 20"
    assert f"pyramid 22 of 22, {counts}" in line
    own, theirs = detector.state_dict(), model.state_dict()
    towers = [name for name in own if name.startswith(("head.cls_subnet.", "head.bbox_subnet."))]
    # Four convolutions a tower, with weight and bias, and for FCOS a group norm behind each.
    assert len(towers) == 2 * 4 * 2 * (2 if kind == "fcos" else 1)
    extra = [name for name in own if name.startswith("backbone.top_block.")]
    assert len(extra) == 4
    assert all(torch.equal(own[name], theirs[name]) for name in towers + extra)


def test_fcos_learns_a_box():
    """detectron2's losses and inference through the yacs builder: one image is learned by heart."""
    torch.manual_seed(0)
    opts = ("MODEL.FCOS.NUM_CLASSES", 2, "MODEL.FCOS.NUM_CONVS", 1, "MODEL.FCOS.SCORE_THRESH_TEST", 0.05)
    detector = build_model(configs.tiny(*SMALL, *opts, config="coco/fcos_R_50_FPN_1x.yaml"))
    truth = Instances((64, 64), gt_boxes=Boxes([[8.0, 16, 40, 56]]), gt_classes=torch.tensor([1]))
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    with EventStorage(0):
        for _ in range(60):
            optimizer.zero_grad()
            sum(detector([{"image": image, "instances": truth}] * 2).values()).backward()
            optimizer.step()
    found = detector.eval()([{"image": image}])[0]["instances"]
    assert found.pred_classes[0] == 1
    assert (found.pred_boxes.tensor[0] - truth.gt_boxes.tensor[0]).abs().max() < 12


def test_unknown_heads_are_named():
    with pytest.raises(UsageError, match="HEAD is 'atss'; it must be none, retinanet or fcos"):
        pretraining("fcos", "MODEL.PIXPRO.HEAD", "atss")
