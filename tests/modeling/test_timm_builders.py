"""Networks of timm from a config: every pyramid, pre-training, and every downstream task from the existing recipes."""

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling import build_backbone, build_model
from detectron2.modeling.backbone import FPN
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from method_helpers import crops
from torch import nn

import configs
from pixpro_d2.checkpoint.convention import InputConvention
from pixpro_d2.modeling.backbone import register_backbone
from pixpro_d2.modeling.freeze import freeze_trunk
from pixpro_d2.modeling.simple_pyramid import SimpleFeaturePyramid
from pixpro_d2.utils.errors import UsageError

CONVOLUTIONAL, PLAIN = "mobilenetv3_small_050", "vit_tiny_patch16_224"


def timm(name, kind="timm_fpn"):
    return ["MODEL.BACKBONE.NAME", f"build_{kind}_backbone", "MODEL.TIMM.NAME", name]


@pytest.mark.parametrize("name, pyramid", [(CONVOLUTIONAL, FPN), (PLAIN, SimpleFeaturePyramid)])
@pytest.mark.parametrize(
    "kind, levels, source",
    [("timm_fpn", "p3 p4 p5 p6", ""), ("retinanet_timm_fpn", "p3 p4 p5 p6 p7", "res5"),
     ("fcos_timm_fpn", "p3 p4 p5 p6 p7", "p5")],
)  # fmt: skip
def test_each_pyramid(name, pyramid, kind, levels, source):
    backbone = build_backbone(configs.tiny(*timm(name, kind)))
    assert type(backbone) is pyramid and backbone.size_divisibility == 32
    maps = backbone(torch.randn(1, 3, 64, 128))
    assert " ".join(maps) == levels
    assert [x.shape for x in maps.values()] == [
        (1, 32, -(-64 // 2**n), -(-128 // 2**n)) for n in range(3, 3 + len(maps))
    ]
    if source:
        below = backbone.bottom_up.output_shape()
        channels = below["res5"].channels if source == "res5" and "res5" in below else 32
        assert backbone.top_block.p6.weight.shape == (32, channels, 3, 3)


INSTANCE = ["MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0]
LAST = ["MODEL.PIXPRO.IN_FEATURES", ["last_feat"]]
ALONE = ["MODEL.TIMM.OUT_FEATURES", ["res5"], "MODEL.PIXPRO.IN_FEATURES", ["res5"]]


@pytest.mark.parametrize(
    "opts, losses",
    [
        ([*timm(CONVOLUTIONAL), *INSTANCE], "loss_pix_p3 loss_pix_p4 loss_pix_p5 loss_pix_p6 loss_ins"),
        ([*timm(PLAIN), *INSTANCE], "loss_pix_p3 loss_pix_p4 loss_pix_p5 loss_pix_p6 loss_ins"),
        ([*timm(CONVOLUTIONAL, "timm"), *ALONE, *INSTANCE], "loss_pix_res5 loss_ins"),
        ([*timm(PLAIN, "timm"), *LAST, *INSTANCE], "loss_pix_last_feat loss_ins"),
    ],
    ids=["FPN", "simple pyramid", "res5", "last_feat"],
)
def test_pretraining_gives_every_weight_a_gradient(opts, losses):
    torch.manual_seed(0)
    model = build_model(configs.tiny(*opts)).train()
    with EventStorage():
        found = model(crops([True, True, True, False]))
    assert set(found) == set(losses.split())
    sum(found.values()).backward()
    assert not model.has_unused_parameters
    assert [name for name, x in model.named_parameters() if x.requires_grad and x.grad is None] == []
    model.move_target(0.9)
    assert set(model.eval()([{"image": torch.zeros(3, 64, 64)}])[0]) == {
        name.removeprefix("loss_pix_") for name in losses.split() if "pix" in name
    }


def test_grey_views():
    grey = ["MODEL.PIXEL_MEAN", [118.0], "MODEL.PIXEL_STD", [58.0], "INPUT.FORMAT", "L"]
    assert build_backbone(configs.tiny(*timm(CONVOLUTIONAL), *grey))(torch.zeros(1, 1, 64, 64))["p6"].shape[2:] == (
        1,
        1,
    )


# recipe -> keys that a network of timm needs beside its name
DOWNSTREAM = {
    "voc/faster_rcnn_R_18_FPN_small.yaml": timm(CONVOLUTIONAL),
    "coco/mask_rcnn_R_50_FPN_1x.yaml": timm(CONVOLUTIONAL),
    "coco/retinanet_R_50_FPN_1x.yaml": timm(CONVOLUTIONAL, "retinanet_timm_fpn"),
    "coco/fcos_R_50_FPN_1x.yaml": timm(CONVOLUTIONAL, "fcos_timm_fpn"),
    "semseg/fpn_R_18_small.yaml": timm(CONVOLUTIONAL),
    "voc/fcn_R_50_30k.yaml": [*timm("resnet10t", "timm"), "MODEL.TIMM.OUTPUT_STRIDE", 16],
    "cityscapes/deeplab_v3_R_50_40k.yaml": [*timm("resnet10t", "timm"), "MODEL.TIMM.OUTPUT_STRIDE", 16],
    "imagenet/linear_R_50_100ep.yaml": [*timm(CONVOLUTIONAL, "timm"), "MODEL.BACKBONE.FROZEN", False],
}
DOWNSTREAM_PLAIN = {
    "coco/mask_rcnn_R_50_FPN_1x.yaml": timm(PLAIN),
    "coco/retinanet_R_50_FPN_1x.yaml": timm(PLAIN, "retinanet_timm_fpn"),
    "voc/fcn_R_50_30k.yaml": [
        *timm(PLAIN, "timm"), "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["last_feat"], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 16,
    ],
}  # fmt: skip
FEW = ["MODEL.RPN.POST_NMS_TOPK_TRAIN", 20, "MODEL.RPN.POST_NMS_TOPK_TEST", 5, "MODEL.ROI_HEADS.NUM_CLASSES", 3,
       "MODEL.RETINANET.NUM_CLASSES", 3, "MODEL.FCOS.NUM_CLASSES", 3, "MODEL.RETINANET.NUM_CONVS", 1,
       "MODEL.FCOS.NUM_CONVS", 1, "MODEL.ROI_BOX_HEAD.CONV_DIM", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16,
       "MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 32,
       "INPUT.CROP.SIZE", [64, 64]]  # fmt: skip


def labelled_image(seed):
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 8:40, 16:56] = True
    objects = Instances((64, 64), gt_boxes=Boxes([[16.0, 8, 56, 40]]), gt_classes=torch.tensor([1]))
    objects.gt_masks = BitMasks(mask)
    return {
        "image": image,
        "instances": objects,
        "sem_seg": mask[0].long(),
        "category_id": 1,
        "height": 64,
        "width": 64,
    }


@pytest.mark.parametrize(
    "recipe, opts",
    [*DOWNSTREAM.items(), *DOWNSTREAM_PLAIN.items()],
    ids=[*DOWNSTREAM, *(f"plain {recipe}" for recipe in DOWNSTREAM_PLAIN)],
)
def test_every_task_trains_and_predicts(recipe, opts):
    torch.manual_seed(0)
    model = build_model(configs.tiny(*opts, *FEW, config=recipe)).train()
    batch = [labelled_image(seed) for seed in range(2)]
    with EventStorage():
        losses = model(batch)
    total = sum(losses.values())
    assert losses and torch.isfinite(total)
    total.backward()
    trained = [name for name, x in model.backbone.bottom_up.named_parameters()] if "fpn" in opts[1] else []
    assert all(model.backbone.bottom_up.get_parameter(name).grad is not None for name in trained)
    model.eval()
    for output in model([{"image": x["image"], "height": 64, "width": 64} for x in batch]):
        if "sem_seg" in output:
            assert output["sem_seg"].shape[1:] == (64, 64)
        assert set(output) & {"instances", "sem_seg", "scores"}


def test_a_frozen_network_does_not_move_and_keeps_its_activations():
    torch.manual_seed(0)
    model = build_model(configs.tiny(*timm(CONVOLUTIONAL), config="voc/faster_rcnn_R_18_FPN_small.yaml"))
    images = torch.randn(1, 3, 64, 64)
    model.eval()
    expected = model.backbone.bottom_up(images)["res5"].detach()
    freeze_trunk(model)
    model.train()
    assert torch.allclose(model.backbone.bottom_up(images)["res5"], expected, rtol=1e-3, atol=1e-4)
    assert not any(weight.requires_grad for weight in model.backbone.bottom_up.parameters())
    assert model.backbone.fpn_output5.weight.requires_grad


def test_batch_norms_of_several_processes():
    backbone = build_backbone(configs.tiny(*timm(CONVOLUTIONAL), "MODEL.TIMM.NORM", "naiveSyncBN"))
    norms = [x for x in backbone.bottom_up.modules() if isinstance(x, nn.BatchNorm2d)]
    assert len(norms) > 30 and all(isinstance(x, NaiveSyncBatchNorm) for x in norms)


def test_the_stride_of_a_resnets_bottlenecks_is_no_part_of_the_input():
    cfg = configs.tiny(*timm(CONVOLUTIONAL), "MODEL.RESNETS.DEPTH", 50)
    assert InputConvention.from_config(cfg).stride_in_1x1 is None


RCNN = "voc/faster_rcnn_R_18_FPN_small.yaml"


@pytest.mark.parametrize(
    "config, opts, message",
    [
        (RCNN, timm(""), "^MODEL.TIMM.NAME is empty: name a network of timm, such as convnext_tiny.$"),
        (RCNN, [*timm(CONVOLUTIONAL), "MODEL.BACKBONE.FREEZE_AT", 2], "FREEZE_AT is 2, .*: set it 0, or .*FROZEN True"),
        ("voc/faster_rcnn_R_50_C4_24k.yaml", timm(CONVOLUTIONAL, "timm"), "Res5ROIHeadsExtraNorm needs .* with an FPN"),
        (RCNN, [*timm(CONVOLUTIONAL), "MODEL.FPN.IN_FEATURES", ["s4"]], "names 's4', but mobilenet.* has stem, res2, "),
        (RCNN, [*timm(PLAIN), "MODEL.FPN.IN_FEATURES", ["last_feat"]], "'last_feat', but vit_tiny.* has res2, "),
        (RCNN, [*timm(PLAIN), "MODEL.FPN.IN_FEATURES", ["res3", "res4"]], r"\['res3', 'res4'\]; .* end with res5"),
        (RCNN, timm("vit_small_patch14_dinov2"), "patches of 14 pixels, .* choose patches of 8 or 16, or use the net"),
        (RCNN, [*timm("resnet10t"), "MODEL.TIMM.OUTPUT_STRIDE", 16], "OUTPUT_STRIDE is 16; a pyramid needs 32"),
        ("pretrain/quickstart.yaml", [*timm(PLAIN, "timm"), *LAST, "INPUT.PIXPRO.CROP_SIZE", 72],
         "CROP_SIZE is 72; this backbone needs a positive multiple of 16"),
        ("pretrain/quickstart.yaml", [*timm("vit_small_patch14_dinov2", "timm"), *LAST],
         "CROP_SIZE is 64; this backbone needs a positive multiple of 14"),
    ],
)  # fmt: skip
def test_mistakes_are_named(config, opts, message):
    with pytest.raises(UsageError, match=message):
        build_model(configs.tiny(*opts, config=config))


def test_a_norm_that_timm_does_not_have():
    with pytest.raises(UsageError, match="MODEL.TIMM.NORM is 'GN'; it must be BN, SyncBN, "):
        configs.tiny("MODEL.TIMM.NORM", "GN")


def test_a_name_that_another_project_has_registered():
    def build_timm_backbone(cfg, input_shape):
        pass

    message = rf"Both pixpro_d2.modeling.timm_builders and {__name__} register the backbone build_timm_backbone: import"
    with pytest.raises(UsageError, match=message):
        register_backbone(build_timm_backbone)
