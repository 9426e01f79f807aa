"""Options before, between and behind the words that a command line ends in."""

import argparse

import pytest

from pixpro_d2.command_line import OptionsAnywhere, ShownDefaults, as_words, at_least, one_sentence
from pixpro_d2.tools import benchmark, measure, study
from pixpro_d2.utils.errors import UnreadableImage, UsageError


def parser():
    parser = OptionsAnywhere()
    parser.add_argument("--flag", action="store_true")
    parser.add_argument("--number", type=int)
    parser.add_argument("--several", nargs="*")
    parser.add_argument("place")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser


@pytest.mark.parametrize(
    "words",
    [
        "--flag --number 3 here KEY -1",
        "here KEY -1 --flag --number 3",
        "here --number=3 KEY --flag -1",
        "--flag here KEY -1 --number 3",
    ],
)
def test_any_order(words):
    args = parser().parse_args(words.split())
    assert vars(args) == {"flag": True, "number": 3, "several": None, "place": "here", "opts": ["KEY", "-1"]}


def test_what_is_no_option_stays():
    args = parser().parse_args(["here", "KEY", "--other", "VALUE"])
    assert args.opts == ["KEY", "--other", "VALUE"] and not args.flag


def test_an_option_without_its_value(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["here", "KEY", "1", "--number"])
    assert "--number: expected one argument" in capsys.readouterr().err


def test_sub_commands_have_their_own_options():
    commands = OptionsAnywhere()
    command = commands.add_subparsers().add_parser("show")
    command.add_argument("--output")
    command.add_argument("opts", nargs=argparse.REMAINDER)
    args = commands.parse_args(["show", "KEY", "1", "--output", "folder"])
    assert (args.output, args.opts) == ("folder", ["KEY", "1"])


def test_a_number_has_a_least_value(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=at_least(0))
    assert parser.parse_args(["--seed", "0"]).seed == 0
    for text, message in (("-1", "argument --seed: -1 is less than 0"), ("1.5", "invalid whole_number value: '1.5'")):
        with pytest.raises(SystemExit):
            parser.parse_args(["--seed", text])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (benchmark, ["step", "--config-file", "x", "--repeats", "0"], "--repeats: 0 is less than 1"),
        (benchmark, ["step", "--config-file", "x", "--warmup", "-1"], "--warmup: -1 is less than 0"),
        (measure, ["--config-file", "x", "--count", "0"], "--count: 0 is less than 1"),
        (measure, ["--config-file", "x", "--seed", "-1"], "--seed: -1 is less than 0"),
        (study, ["out", "--seeds", "0", "-1"], "--seeds: -1 is less than 0"),
        (study, ["out", "--pretraining-seeds", "-2"], "--pretraining-seeds: -2 is less than 0"),
        (study, ["out", "--jobs", "0"], "--jobs: 0 is less than 1"),
    ],
)
def test_counts_and_seeds_are_checked(command, words, message, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert message in capsys.readouterr().err


def test_the_help_shows_the_defaults_that_are_values():
    parser = argparse.ArgumentParser(formatter_class=ShownDefaults)
    for name, default in {"size": 0, "seeds": [0, 1], "weights": "", "batch": None, "fast": False, "opts": []}.items():
        parser.add_argument(f"--{name}", default=default, metavar="X", help=f"the {name}")
    lines = [line.split("X ", 1)[1].strip() for line in parser.format_help().splitlines() if "X  " in line]
    assert lines == [
        "the size (default: 0)", "the seeds (default: [0, 1])", "the weights", "the batch", "the fast", "the opts"
    ]  # fmt: skip


def _fail(error):
    """Raise the error."""
    raise error


def test_a_mistake_ends_a_program_with_one_sentence():
    program = one_sentence(_fail)
    for error in (UsageError("a: choose b"), UnreadableImage("a.png: empty")):
        with pytest.raises(SystemExit) as caught:
            program(error)
        assert caught.value.code == f"error: {error}"
    with pytest.raises(KeyError):
        program(KeyError("a"))
    assert (program.__name__, program.__doc__) == ("_fail", "Raise the error.")
    assert one_sentence(lambda argv=None: argv)(["a"]) == ["a"]


def test_options_as_words():
    assert as_words({"A.B": 1, "C": (2, "x"), "D": ""}) == ["A.B", "1", "C", "(2, 'x')", "D", ""]
