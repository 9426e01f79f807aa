"""Config keys and values at random, as options and as files, taken through the set-up of a run."""

import argparse

import cli
import yaml

from pixpro_d2.engine.configuration.configure import load_config, setup
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.utils.nested import flatten

FILES = ["pretrain/quickstart.yaml", "voc/faster_rcnn_R_18_FPN_small.yaml", "voc/fcn_R_50_30k.yaml"]
VALUES = [
    *(None, True, False, 0, 1, -1, 3, 2**40, -(2**70), 0.0, -0.5, 1e-30, 1e300, float("inf"), float("nan")),
    *("", " ", "cpu", "none", "x" * 5000, "~", "$(true)", "'", "(", "[", "{}", "a: b", "\u2603", "\0", "../..", "#"),
    *([], [0], [1, 2], ["a"], [[1], [2]], [None], (), (1,), ("a", "b"), (0.5, 0.5), {}, {"A": 1}, {"A": {"B": [1]}}),
]


class Configs:
    """Cases of a few keys that are misspelled, or have a value out of VALUES or another key's."""

    def __init__(self, folder):
        self.folder = folder
        render_dataset(folder / "scenes", train=4, test=0, size=32, layouts=("voc",))
        self.opts = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", f"('voc:{folder}/scenes@train',)"]
        self.keys = flatten(load_config("", []))

    def try_one(self, rng):
        """Set up a run by a config."""
        file = str(cli.ROOT / "configs" / FILES[rng.integers(len(FILES))])
        opts = list(self.opts)
        for _ in range(rng.geometric(0.6)):
            key = self._key(rng)
            value = self._value(key, rng)
            if rng.random() < 0.5:
                opts += [key, str(value)]
            else:
                file = self._written(file, key, value)
        args = argparse.Namespace(config_file=file, opts=opts, resume=bool(rng.integers(2)), eval_only=False)
        setup(args)

    def _key(self, rng):
        key = list(self.keys)[rng.integers(len(self.keys))]
        if rng.random() < 0.9:
            return key
        place = rng.integers(len(key))
        wrong = [key[:place] + key[place + 1 :], key[:place] + "_" + key[place:], key[:place], key.lower()]
        return wrong[rng.integers(len(wrong))]

    def _value(self, key, rng):
        values = [*VALUES, *self.keys.values()]
        if rng.random() < 0.7:  # of the same type, which goes further
            values = [value for value in values if type(value) is type(self.keys.get(key))] or values
        return values[rng.integers(len(values))]

    def _written(self, base, key, value):
        for part in reversed(key.split(".")):
            value = {part: value}
        path = self.folder / f"{len(list(self.folder.glob('*.yaml')))}.yaml"
        path.write_text(yaml.dump({**value, "_BASE_": base}, allow_unicode=True), encoding="utf-8")
        return str(path)
