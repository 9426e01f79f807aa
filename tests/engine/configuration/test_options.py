"""KEY VALUE pairs of a command line: values take the type of their key, and mistakes are named where they are."""

import pytest

import configs
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import value_of

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.mark.parametrize(
    "key, word, value",
    [
        ("SOLVER.MAX_ITER", "2.0", 2),
        ("SOLVER.MAX_ITER", "1e4", 10000),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 0.001),
        ("SOLVER.AMP.ENABLED", "true", True),
        ("SOLVER.AMP.ENABLED", "No", False),
        ("SOLVER.AMP.ENABLED", "0", False),
        ("OUTPUT_DIR", "2024", "./2024"),
        ("OUTPUT_DIR", "1,2", "./1,2"),
        ("OUTPUT_DIR", "'quoted'", "quoted"),
        ("INPUT.MIN_SIZE_TRAIN", "160", (160,)),
        ("INPUT.MIN_SIZE_TRAIN", "[160, 200]", (160, 200)),
        ("MODEL.RESNETS.OUT_FEATURES", "res5", ["res5"]),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[16, 32]", [16, 32]),
        ("SOLVER.WEIGHT_DECAY_BIAS", "None", None),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0.1", 0.1),
    ],
)
def test_a_value_takes_the_type_of_its_key(key, word, value):
    found = value_of(load_config(QUICKSTART, [key, word]), key)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "words, message",
    [
        (["SOLVER.MAX_ITER", "ten"], "SOLVER.MAX_ITER is ten; it must be a whole number."),
        (["SOLVER.MAX_ITER", "2.5"], "SOLVER.MAX_ITER is 2.5; it must be a whole number."),
        (["SOLVER.MAX_ITER", "True"], "SOLVER.MAX_ITER is True; it must be a whole number."),
        (["SOLVER.WEIGHT_DECAY_BIAS", "a"], "SOLVER.WEIGHT_DECAY_BIAS is a; it must be a number or None."),
        (["SOLVER.BASE_LR", "0,1"], "SOLVER.BASE_LR is (0, 1); it must be a number."),
        (["SOLVER.AMP.ENABLED", "2"], "SOLVER.AMP.ENABLED is 2; it must be True or False."),
        (["SOLVER.MAX_ITER", "None"], "SOLVER.MAX_ITER is None; give it a value, or leave the key out."),
        (["DATASETS.TRAIN", "None"], "DATASETS.TRAIN is None; give it a value, or leave the key out."),
        (["DATASETS.TRAIN", "{'a': 1}"], "DATASETS.TRAIN is {'a': 1}; it must be a name or a list of names."),
        (
            ["MODEL.PIXEL_MEAN", "['a']"],
            "MODEL.PIXEL_MEAN is ['a']; it must be a list, such as",
        ),
        (["INPUT.MIN_SIZE_TRAIN", "(160"], "INPUT.MIN_SIZE_TRAIN is (160; it must be a list"),
        (["SEED", "1", "SOLVER.BASE_LR"], "Options come in pairs of KEY VALUE, but SOLVER.BASE_LR has no value."),
        (["SEED", "OUTPUT_DIR", "x"], "Options come in pairs of KEY VALUE, but SEED has no value before OUTPUT_DIR."),
        (["DATASETS.TRAIN", "images:my", "photos", "SEED", "1"], "'photos' is in the place of a KEY, behind DATASETS."),
        (
            ["SEED", "1", "photo.jpg", "2"],
            "'photo.jpg' is in the place of a KEY, behind SEED 1: put a value of",
        ),
        (["SEED=1", "OUTPUT_DIR", "x"], "'SEED=1' is no KEY VALUE pair: write SEED 1, with a space."),
        (["-resume", "SEED", "1"], "There is no option '-resume': the options are listed by --help."),
        (["solver.base_lr", "1"], "There is no config key 'solver.base_lr'; did you mean SOLVER.BASE_LR?"),
        (["SOLVER.BASE_LR.X", "1"], "There is no config key 'SOLVER.BASE_LR.X'; did you mean SOLVER.BASE_LR"),
        (["_BASE_", "x.yaml"], "There is no config key '_BASE_'"),
        (["SOLVER", "5"], "SOLVER is a group of config keys: name one of them, such as SOLVER."),
    ],
)
def test_mistakes_name_their_word(words, message):
    with pytest.raises(UsageError) as error:
        load_config(QUICKSTART, words)
    assert str(error.value).startswith(message)
