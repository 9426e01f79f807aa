"""The command line: detectron2's, a dry run, and what is refused."""

import subprocess

import pytest
from detectron2.engine import default_argument_parser

from pixpro_d2.launch_arguments import argument_parser, check_arguments, command_of
from pixpro_d2.utils.errors import UsageError


def parse(*words):
    return argument_parser().parse_args(list(map(str, words)))


def test_all_of_detectron2s_options_are_there():
    parsers = default_argument_parser(), argument_parser()
    theirs, ours = ({option.dest: option.default for option in parser._actions} for parser in parsers)
    assert {name for name, default in theirs.items() if name not in ours or ours[name] != default} == {"dist_url"}


def test_defaults():
    args = parse("--config-file", "a.yaml", "SEED", -1)
    assert (args.dry_run, args.resume, args.dist_url, args.opts) == (False, False, "auto", ["SEED", "-1"])
    check_arguments(args)
    assert parse("--dry-run").dry_run


@pytest.mark.parametrize(
    "words, message",
    [
        (["--config-file", "a.yaml", "--num-gpus", 0], "must be at least 1"),
        (["--num-machines", 0], "must be at least 1"),
        (
            ["--num-machines", 2, "--dist-url", "tcp://a:1", "--machine-rank", 2],
            "--machine-rank is 2; it numbers the 2",
        ),
        (["--machine-rank", -1], "--machine-rank is -1"),
        (["--num-machines", 2], "add --dist-url tcp://HOST:PORT on all"),
        (["SEED", 1, "--dry-runs"], "There is no option '--dry-runs'"),
        ([], "names no config: add --config-file"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UsageError, match=message):
        check_arguments(parse(*words))


WORDS = ["SOLVER.STEPS", "(1, -2)", "SEED", "-1"]


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        (["--resume"], "resume", True),
        (["--dry-run"], "dry_run", True),
        (["--eval-only"], "eval_only", True),
        (["--allow-changes"], "allow_changes", True),
        (["--num-gpus", "3"], "num_gpus", 3),
        (["--num-gpus=3"], "num_gpus", 3),
        (["--config-file", "a.yaml"], "config_file", "a.yaml"),
        (["--init", "random"], "init", "random"),
    ],
)
def test_options_stand_anywhere(option, name, value, place):
    args = parse(*WORDS[:place], *option, *WORDS[place:])
    assert getattr(args, name) == value and args.opts == WORDS


@pytest.mark.parametrize(
    ("program", "launcher"),
    [
        ("/a/train_net.py", "python train_net.py"),
        ("/bin/pixpro-d2", "pixpro-d2 train"),
        ("my_script.py", "pixpro-d2 train"),
    ],
)
def test_arguments_become_the_command_again(program, launcher, monkeypatch):
    monkeypatch.setattr("sys.argv", [program])
    opts = ["A.B", "('x y',)", "C", "it's $HOME \"`", "D", ""]
    args = argument_parser().parse_args(["--config-file", "a b.yaml", "--eval-only", "--num-gpus", "2", *opts])
    command = command_of(args)
    assert command.startswith(f"{launcher} --config-file")
    shell = command.replace(launcher, "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True).stdout.split("\n")[:-1]
    assert words == ["--config-file", "a b.yaml", "--eval-only", "--num-gpus", "2", *opts]
