"""Names of parts of a model: a wrong name lists those that there are."""

import pytest

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.engine.configuration.registered import REGISTRIES, check_registered
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
