"""Names of parts of a model: a wrong name lists those that there are."""

import pytest
import torch
import torchvision

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.engine.configuration.registered import REGISTRIES, check_registered
from pixpro_d2.engine.pretrained import load_pretrained
from pixpro_d2.extras.benchmark.step import measured_config
from pixpro_d2.extras.deployment.network import load_network
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import value_of


@pytest.mark.parametrize("key", REGISTRIES)
def test_a_wrong_name_lists_the_right_ones(key):
    cfg = load_config(str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml"), [])
    check_registered(cfg)
    known = value_of(cfg, key)
    cfg = load_config(str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml"), [key, "MaskRCNN"])
    with pytest.raises(UsageError, match=rf"^{key} is 'MaskRCNN'; it must be .*{known}.*\.$"):
        check_registered(cfg)


def test_tools_name_a_backbone_that_nobody_registered(tmp_path):
    """It is registered in a file of the user, which a tool does not import."""
    config = tmp_path / "own.yaml"
    config.write_text("_BASE_: pretrain/quickstart\nMODEL:\n  DEVICE: cpu\n  BACKBONE:\n    NAME: build_own\n")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "own.pth")
    for load in (
        lambda: load_pretrained(load_config(str(config), []), "", 0),
        lambda: load_network(str(tmp_path / "own.pth"), config_file=str(config)),
        lambda: measured_config(str(config), [], "cpu"),
    ):
        with pytest.raises(UsageError, match="^MODEL.BACKBONE.NAME is 'build_own'; it must be .*build_resnet_backbone"):
            load()
