"""Commands out of Markdown pages, and their arguments as the programs themselves understand them."""

import argparse
import importlib
import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pixpro_d2.cli import COMMANDS
from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.configuration.configure import command_config

ROOT = Path(__file__).resolve().parent.parent
# Modules of commands that are not among the tools.
APART = ("commands.pretrain", "commands.finetune", "commands.evaluate", "install_detectron2", "completion")
LOOP = re.compile(r"for (\w+) in ([\w ]+); do (.+) & done; wait")
FENCE = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """``pixpro-d2 COMMAND``, ``python train_net.py`` or ``python -m pixpro_d2.tools.NAME`` as a page has it.

    Attributes:
        text (str): the whole line.
        launcher (tuple[str]): words before the program, but ``python``: torchrun and its options.
        tool (str): NAME, or "" for train_net.py; of other commands of pixpro-d2 the module, such as
            "commands.pretrain".
        argv (tuple[str]): the arguments.
    """

    text: str
    launcher: tuple
    tool: str
    argv: tuple


def read(page):
    """Text of a page, named by its path within the checkout."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    """Contents of the fenced blocks of a language."""
    return [body for name, body in FENCE.findall(read(page)) if name == language]


def prose(page):
    """The page without its fenced blocks."""
    return FENCE.sub("", read(page))


def spans(page):
    """The code within the running text: `such`."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page):
    """Targets of links and images: [such](target)."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page):
    """What a link to a heading of the page names it."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def expand(text):
    """The alternatives of a text with {such,ones}."""
    match = re.search(r"\{([^{}]+)\}", text)
    if not match:
        return [text]
    return [x for part in match[1].split(",") for x in expand(text[: match.start()] + part + text[match.end() :])]


def commands(page):
    """(commands of this project, words of every other line) of a page's bash blocks."""
    found, others = [], []
    for block in blocks(page, "bash"):
        variables = {}
        lines = block.replace("\\\n", " ").splitlines()
        for line, values in itertools.chain.from_iterable(map(_turns, lines)):
            words = [_substitute(word, variables | values) for word in shlex.split(line, comments=True)]
            name, is_assignment, value = words[0].partition("=") if len(words) == 1 else ("", "", "")
            if is_assignment:
                variables[name] = value
            elif command := _command(line, words):
                found.append(command)
            elif words and not block.startswith("#!"):
                others.append(words)
    return found, others


def _turns(line):
    """[(command, {variable: value})] of a loop on one line, or of the line itself."""
    loop = LOOP.fullmatch(line)
    return [(loop[3], {loop[1]: value}) for value in loop[2].split()] if loop else [(line, {})]


def _substitute(word, variables):
    return re.sub(r"\$(\w+)", lambda match: variables.get(match[1], match[0]), word)


def _command(line, words):
    if words[:1] == ["pixpro-d2"]:
        return Command(line, (), _tool(words[1]), tuple(words[2:]))
    for i, word in enumerate(words):
        if word == "train_net.py":
            return Command(line, tuple(x for x in words[:i] if x != "python"), "", tuple(words[i + 1 :]))
        if word.startswith("pixpro_d2.tools."):
            name = word.removeprefix("pixpro_d2.tools.")
            return Command(line, tuple(words[: i - 2]), name, tuple(words[i + 1 :]))
        if " train_net.py " in word:  # a command of `bash -c`
            return _command(line, [*words[:i], *shlex.split(word)])
    return None


def _tool(name):
    """What ``Command.tool`` is for a sub-command of pixpro-d2."""
    module = COMMANDS[name][0].removeprefix(".")
    return "" if name == "train" else module.removeprefix("tools.").removesuffix(".command_line")


def module_of(tool):
    """The module of ``Command.tool``, which has a function ``main(argv)``."""
    return importlib.import_module(f"pixpro_d2.{tool}" if tool in APART else f"pixpro_d2.tools.{tool}")


def check(command):
    """Parse a command's arguments with its own parser, and load its config with its options; nothing runs.

    Returns:
        tuple[Namespace, CfgNode or None]:
    """
    argv = ["0" if word.startswith("$") else word for word in command.argv]
    while "..." in argv:  # what the reader fills in, perhaps with the option before it
        i = argv.index("...")
        del argv[i - 1 if argv[i - 1].startswith("--") else i : i + 1]
    args = _parse_only(command.tool, argv) if command.tool else argument_parser().parse_args(argv)
    has_config = getattr(args, "config_file", "") and hasattr(args, "opts")
    return args, command_config(args) if has_config else None


class _Parsed(Exception):
    pass


def _parse_only(tool, argv):
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser, args=None, namespace=None):
        raise _Parsed(parse_args(parser, args, namespace))

    main = module_of(tool).main
    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            main(argv)
        except _Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{tool} parsed no arguments")
