"""What input weights expect, and the config keys that say so."""

import json
from dataclasses import replace

import pytest

import configs
from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION, InputConvention, as_options

NO_STRIDE = InputConvention("RGB", TORCHVISION.pixel_mean, TORCHVISION.pixel_std, None)


def test_from_config():
    whole, basic = replace(TORCHVISION, pixel_range=()), replace(NO_STRIDE, pixel_range=())
    assert InputConvention.from_config(configs.tiny(config="pretrain/pixpro_c5_100ep.yaml")) == whole
    assert InputConvention.from_config(configs.tiny(config="pretrain/quickstart.yaml")) == basic  # basic blocks
    opts = ("MODEL.BACKBONE.NAME", "build_regnet_backbone", "INPUT.PIXEL_RANGE", [0, 4095])
    deep = replace(basic, pixel_range=(0.0, 4095.0))
    assert InputConvention.from_config(configs.tiny(*opts, config="pretrain/pixpro_c5_100ep.yaml")) == deep


def test_dict_survives_json():
    for convention in (MSRA, TORCHVISION, NO_STRIDE, replace(MSRA, pixel_range=()), replace(MSRA, pixel_range=(0, 9))):
        assert InputConvention.from_dict(json.loads(json.dumps(convention.to_dict()))) == convention
    earlier = {name: value for name, value in MSRA.to_dict().items() if name != "pixel_range"}
    assert InputConvention.from_dict(earlier) == MSRA


@pytest.mark.parametrize("foreign", [None, [1, 2], {}, {"format": "RGB"}, {**MSRA.to_dict(), "more": 1}])
def test_other_entries_of_the_same_name_are_not_taken(foreign):
    assert InputConvention.from_dict(foreign) is None


def test_all_keys_that_differ_are_named():
    assert TORCHVISION.keys_to_set(MSRA) == {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
        "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
    }
    assert MSRA.keys_to_set(MSRA) == {} and TORCHVISION.keys_to_set(NO_STRIDE) == {}


@pytest.mark.parametrize(
    ("weights", "config", "differs"),
    [((0, 4095), (), True), ((0, 4095), (0, 255), False), ((0, 4095), None, False), ((), (0, 4095), False),
     (None, (), False)],
)  # fmt: skip
def test_weights_with_a_range_need_a_range(weights, config, differs):
    ours, theirs = (replace(TORCHVISION, pixel_range=values) for values in (weights, config))
    assert ours.keys_to_set(theirs) == ({"INPUT.PIXEL_RANGE": [0, 4095]} if differs else {})


@pytest.mark.parametrize("mean, differs", [((124.5, 116.28, 103.53), False), ((125.0, 116.28, 103.53), True)])
def test_rounding_of_the_mean_is_no_difference(mean, differs):
    other = InputConvention("RGB", mean, TORCHVISION.pixel_std, False)
    assert list(TORCHVISION.keys_to_set(other)) == (["MODEL.PIXEL_MEAN"] if differs else [])


def test_grey_images_differ():
    grey = InputConvention("L", (116.0,), (57.0,), False)
    assert set(TORCHVISION.keys_to_set(grey)) == {"INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"}


def test_options_can_be_put_on_a_command_line():
    keys = {"INPUT.FORMAT": "RGB", "MODEL.PIXEL_STD": [1.0, 1.0]}
    assert as_options(keys) == 'INPUT.FORMAT RGB MODEL.PIXEL_STD "[1.0, 1.0]"'


def test_config_gives_the_convention_of_its_weights():
    for config in ("voc/faster_rcnn_R_50_C4_24k.yaml", "pretrain/pixpro_fpn.yaml"):
        assert InputConvention.from_config(configs.tiny(config=config)).keys_to_set(TORCHVISION) == {}
