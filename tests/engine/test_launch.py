"""What the launcher does before there are processes; those are in tests/distributed."""

import pytest

from pixpro_d2.engine import argument_parser, launch

CONFIG = ["--config-file", "configs/pretrain/quickstart.yaml"]


def record_call(args):
    args.called = True


def test_one_process_is_this_one():
    args = argument_parser().parse_args([*CONFIG, "MODEL.DEVICE", "cpu"])
    launch(record_call, args)
    assert args.called


@pytest.mark.parametrize(
    "words, message",
    [
        ([*CONFIG, "--num-gpus", "2", "MODEL.PIXPRO.GAMA", "1"], "error: There is no config key 'MODEL.PIXPRO.GAMA'"),
        (["--config-file", "none.yaml"], "error: There is no config file .*none.yaml"),
        ([*CONFIG, "--num-machines", "2"], "error: Several machines need the address"),
    ],
)
def test_mistakes_are_told_before_a_process_starts(words, message, monkeypatch):
    args = argument_parser().parse_args(words)
    with pytest.raises(SystemExit, match=message):
        launch(record_call, args)
    assert not hasattr(args, "called")
    monkeypatch.setenv("RANK", "1")  # inside torchrun all processes find the mistake
    with pytest.raises(SystemExit) as end:
        launch(record_call, args)
    assert end.value.code == 1
