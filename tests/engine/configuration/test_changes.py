"""A resumed run that is given other values than it began with."""

import pytest
import yaml
from data_helpers import logged, write_images

import configs
from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.configuration.configure import load_config, setup
from pixpro_d2.engine.configuration.resumed_run import SHOWN, changed_values, is_free
from pixpro_d2.starts import KEYS
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.nested import value_of

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes") / "images"
    write_images(folder, 8)
    return folder


@pytest.fixture
def run(images, tmp_path):
    """A function of command-line words: setup of a run in a folder, where a checkpoint then is."""
    words = ["DATASETS.TRAIN", f"('images:{images}',)", "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "4"]

    def start(*flags, opts=()):
        args = ["--config-file", QUICKSTART, *flags, *words, "OUTPUT_DIR", str(tmp_path / "out"), *map(str, opts)]
        cfg = setup(argument_parser().parse_args(args))
        (tmp_path / "out" / "model_0000001.pth").touch()
        return cfg

    start()
    return start


CHANGES = [
    ("SOLVER.MAX_EPOCHS", 180, "SOLVER.MAX_ITER was "),
    ("SOLVER.BASE_LR", 0.5, "SOLVER.BASE_LR was "),
    ("SOLVER.IMS_PER_BATCH", 8, "SOLVER.IMS_PER_BATCH was 4, now 8"),
    ("SOLVER.OPTIMIZER", "AdamW", "now 'AdamW'"),
    ("SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.WEIGHT_DECAY was "),
    ("MODEL.PIXPRO.MOMENTUM", 0.5, "MODEL.PIXPRO.MOMENTUM was "),
    ("MODEL.PIXPRO.METHOD", "pixcontrast", "MODEL.PIXPRO.METHOD was 'pixpro', now 'pixcontrast'"),
    ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.DEPTH was "),
    ("MODEL.FPN.NORM", "GN", "MODEL.FPN.NORM was 'BN', now 'GN'"),
    ("INPUT.PIXPRO.AUG", "simclr", "INPUT.PIXPRO.AUG was 'byol', now 'simclr'"),
]


def test_only_a_new_run_is_refused_values_that_do_nothing(run, tmp_path):
    lars = ["SOLVER.OPTIMIZER", "LARS", "SOLVER.NESTEROV", "True"]
    with pytest.raises(UsageError, match="NESTEROV is True, but SOLVER.OPTIMIZER LARS does not use this key"):
        run(opts=[*lars, "OUTPUT_DIR", str(tmp_path / "new")])
    assert run("--resume", "--allow-changes", opts=lars).SOLVER.NESTEROV


@pytest.mark.parametrize(("key", "value", "told"), CHANGES, ids=[key for key, _, _ in CHANGES])
def test_what_a_run_learns_stays(run, tmp_path, key, value, told):
    before = (tmp_path / "out" / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"^The run in .*out has other values .*add --allow-changes") as error:
        run("--resume", opts=[key, value])
    assert told in str(error.value) and (tmp_path / "out" / "config.yaml").read_bytes() == before
    with logged("pixpro_d2") as messages:
        cfg = run("--resume", "--allow-changes", opts=[key, value])
    assert any(told in message for message in messages)
    assert key == "SOLVER.MAX_EPOCHS" or cfg.dump() != before.decode()
    run("--resume", opts=[key, value])  # is the run's own by now


def test_a_run_of_another_task_shows_a_few_keys(run):
    opts = ["SOLVER.MAX_EPOCHS", 7, "SOLVER.BASE_LR", 0.5, "SOLVER.MOMENTUM", 0.5, "SOLVER.WEIGHT_DECAY", 0.1]
    opts += ["MODEL.PIXPRO.MOMENTUM", 0.5, "MODEL.PIXPRO.POS_RATIO", 0.5, "INPUT.PIXPRO.AUG", "simclr"]
    with pytest.raises(UsageError, match=r"\(.* was .*; and 2 further keys\): resume with these") as error:
        run("--resume", opts=opts)
    assert str(error.value).count(" was ") == SHOWN


def test_a_key_of_another_version_is_told(run, tmp_path):
    path = tmp_path / "out" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["MODEL"]["PIXPRO"]["LOSS"] = "pixcontrast"  # the first name of METHOD
    path.write_text(yaml.safe_dump(content))
    with logged("pixpro_d2") as messages:
        run("--resume")
    told = "The resumed run had MODEL.PIXPRO.LOSS 'pixcontrast', but this version has no such key."
    assert [text for text in messages if "The resumed run had" in text] == [told]


def test_a_missing_config_is_told(run, tmp_path):
    (tmp_path / "out" / "config.yaml").unlink()
    with logged("pixpro_d2") as messages:
        run("--resume", opts=["SOLVER.BASE_LR", 0.5])
    assert sum("config.yaml is missing: the values of the command are not compared" in text for text in messages) == 1


@pytest.mark.parametrize("resume", [True, False])
def test_an_evaluation_of_another_model_is_told(run, images, tmp_path, resume):
    flags = ["--eval-only", *(["--resume"] if resume else [])]
    opts = ["DATASETS.TEST", f"images:{images}", "MODEL.WEIGHTS", tmp_path / "out/model_0000001.pth"]
    with logged("pixpro_d2") as messages:
        run(*flags, opts=[*opts, "MODEL.PIXPRO.CHANNELS_LAST", "False", "SOLVER.BASE_LR", 0.5])
    assert not any("another model" in message for message in messages)
    with logged("pixpro_d2") as messages:
        run(*flags, opts=[*opts, "MODEL.PIXPRO.PPM.GAMMA", 3.0])
    (told,) = [message for message in messages if "another model" in message]
    assert told.endswith("out/config.yaml: MODEL.PIXPRO.PPM.GAMMA was 2.0, now 3.0.")


def test_the_same_words_tell_nothing(run):
    with logged("pixpro_d2") as messages:
        run("--resume")
    assert not any("another value" in message for message in messages)


def test_where_and_how_may_change(run, images):
    """Each is told; an evaluation compares nothing."""
    opts = ["DATALOADER.NUM_WORKERS", 3, "VIS_PERIOD", 5, "SOLVER.CHECKPOINT_PERIOD", 7, "TEST.EVAL_PERIOD", 9]
    opts += ["DATASETS.TEST", f"('images:{images}',)", "MODEL.WEIGHTS", "other.pth"]
    with logged("pixpro_d2") as messages:
        run("--resume", opts=opts)
    for key in opts[::2]:
        assert sum(f"another value: {key} was" in message for message in messages) == 1, key
    with logged("pixpro_d2") as messages:  # what is left out again
        run("--resume")
    assert any("DATASETS.TEST was ['images:" in message and "now []" in message for message in messages)
    run("--eval-only", "--resume", opts=["MODEL.PIXPRO.METHOD", "pixcontrast", "DATASETS.TEST", opts[9]])


def test_a_resumed_run_keeps_its_start(run, tmp_path):
    """By config.yaml, whatever the command's config has; --init of another start is refused, in an evaluation too."""
    out = tmp_path / "out"
    for path in out.iterdir():
        path.unlink()
    started = run("--init", "msra")
    before = (out / "config.yaml").read_bytes()
    for flags in (("--init", "msra"), ()):
        cfg = run("--resume", *flags)
        assert [value_of(cfg, key) for key in KEYS] == [value_of(started, key) for key in KEYS]
        assert cfg.INPUT.FORMAT == "BGR" and (out / "config.yaml").read_bytes() == before
    with logged("pixpro_d2") as messages:
        run("--resume")
    assert sum("keeps the start in its config.yaml: MODEL.WEIGHTS 'detectron2:" in message for message in messages) == 1
    for flags in (["--resume"], ["--resume", "--allow-changes"], ["--resume", "--eval-only"]):
        with pytest.raises(
            UsageError, match=r"has another start than --init random .*MODEL.WEIGHTS 'detectron2:.*remove"
        ):
            run(*flags, "--init", "random")
    assert run("--resume", "--eval-only").INPUT.FORMAT == "BGR"
    assert run("--resume", opts=["MODEL.WEIGHTS", "mine.pth"]).MODEL.WEIGHTS == "mine.pth"


def test_a_run_older_than_a_norm_key(run, tmp_path):
    path = tmp_path / "out" / "config.yaml"
    former = yaml.safe_load(path.read_text())
    del former["MODEL"]["TIMM"]["NORM"]  # SyncBN by default, and BN in one process
    path.write_text(yaml.safe_dump(former))
    with logged("pixpro_d2") as messages:
        run("--resume")
    assert not any("another value" in message for message in messages)


def test_a_file_that_was_cut_off(run, tmp_path):
    (tmp_path / "out" / "config.yaml").write_text("")
    with logged("pixpro_d2") as messages:
        run("--resume")
    assert sum("config.yaml is damaged" in message for message in messages) == 1


def test_values_before_and_now():
    default = load_config("", [])
    cfg = load_config("", ["SOLVER.STEPS", "(1, 2)", "SOLVER.GAMMA", 0.5])
    assert changed_values(cfg, default, {"SOLVER": {"STEPS": [1, 2], "OF_ANOTHER_VERSION": 3}}) == {
        "SOLVER.GAMMA": (0.1, 0.5)
    }


def test_batch_norm_by_another_number_of_processes():
    assert is_free("MODEL.FPN.NORM", ("BN", "naiveSyncBN")) and not is_free("MODEL.FPN.NORM", ("BN", "GN"))
