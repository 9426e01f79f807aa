"""Config keys that detectron2 has after v0.6, in configs that are loaded under v0.6: a run's config.yaml lists all."""

import contextlib

from ..config_checks import value_of
from ..errors import UsageError

# key -> its default, with which detectron2 does what v0.6 does
LATER_KEYS = {
    "FLOAT32_PRECISION": "",
    "DATALOADER.REPEAT_SQRT": True,
    "SOLVER.NUM_DECAYS": 3,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 50,
}


@contextlib.contextmanager
def later_keys_known(cfg):
    """Context in which values of ``LATER_KEYS`` can be merged into ``cfg``, which afterwards has the keys it had.

    Raises:
        UsageError: at its end, if one of them has got another value than its default.
    """
    added = {}
    for key, default in LATER_KEYS.items():
        node, name = _place(cfg, key)
        if name not in node:
            node[name] = added[key] = default
    yield
    for key, default in added.items():
        node, name = _place(cfg, key)
        value = node.pop(name)
        if value != default:
            raise UsageError(
                f"{key} is {value!r}, a key of detectron2 after v0.6, but v0.6 is installed: take the key out, or "
                "install detectron2 from its main branch."
            )


def _place(cfg, key):
    node, _, name = key.rpartition(".")
    return (value_of(cfg, node) if node else cfg), name
