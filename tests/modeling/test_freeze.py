"""Frozen backbones of every kind of model."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint.transfer import trunk_names
from pixpro_d2.modeling.freeze import freeze_trunk

MODELS = {
    "FPN": "voc/faster_rcnn_R_18_FPN_small.yaml",
    "C4": "voc/faster_rcnn_R_50_C4_24k.yaml",
    "FCN": "cityscapes/fcn_R_50_90k.yaml",
    "DeepLabV3": "cityscapes/deeplab_v3_R_50_40k.yaml",
    "RetinaNet": "coco/retinanet_R_50_FPN_1x.yaml",
}


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_exactly_the_trunk_is_frozen(config):
    model = build_model(configs.tiny(config=config))
    names = set(model.state_dict())
    trunk = set(trunk_names(model.state_dict()))
    freeze_trunk(model)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable and not trainable & trunk
    frozen_parameters = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen_parameters <= trunk  # a frozen norm's scale and shift are buffers
    assert trunk <= set(model.state_dict()) <= names
    norms = [name for name, m in model.named_modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert not any(f"{name}.weight" in trunk for name in norms)


def test_norms_do_not_move_in_training_and_use_the_loaded_statistics():
    torch.manual_seed(0)
    model = build_model(configs.tiny(config=MODELS["FCN"]))
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    loaded = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.rand(1, 3, 32, 32)
    model.backbone.eval()
    expected = model.backbone(image)["res5"].detach()
    freeze_trunk(model)
    model.load_state_dict({k: v for k, v in loaded.items() if k in model.state_dict()})
    model.train()
    assert torch.allclose(model.backbone(image)["res5"], expected, atol=1e-4)
    batch = [{"image": torch.randint(0, 256, (3, 64, 64)), "sem_seg": torch.zeros(64, 64, dtype=torch.long)}] * 2
    sum(model(batch).values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.1).step()
    now = model.state_dict()
    assert all(torch.equal(now[name], loaded[name]) for name in now if name.startswith("backbone."))
    assert any(not torch.equal(now[name], loaded[name]) for name in now if name.startswith("sem_seg_head."))
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.backbone.modules())
