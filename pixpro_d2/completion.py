"""Run ``pixpro-d2 completion``: print a script that lets a shell complete commands, options and their values."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from . import cli
from .commands.checks import check_detectron2
from .config_files import config_names, start_names
from .utils.errors import UsageError

SHELLS = ("bash", "zsh", "tcsh", "fish")
CONFIG_OPTIONS = {"--config", "--config-file", "--recipe"}
CONFIG_FUNCTION = "_pixpro_d2_config_files"  # "_file" lets shtab's function treat the answers as names of files
EPILOG = """examples:
  mkdir -p ~/.local/share/bash-completion/completions
  pixpro-d2 completion bash > ~/.local/share/bash-completion/completions/pixpro-d2
  pixpro-d2 completion zsh > ~/.zfunc/_pixpro-d2    # a folder of $fpath"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="pixpro-d2 completion",
        description="Print a script that completes the command line of pixpro-d2 in a shell.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``; by default the command line of this process.

    Raises:
        UsageError: if detectron2 or shtab is not installed.
    """
    args = build_parser().parse_args(argv)
    check_detectron2()
    if find_spec("shtab") is None:
        raise UsageError("The script is made by shtab, which is not installed: run `pip install shtab`.")
    import shtab

    parser = whole_parser()
    _complete_values(parser, shtab.FILE)
    function = f'{CONFIG_FUNCTION}() {{ compgen -W "{_recipes()}" -- "$1"; compgen -f -- "$1"; }}'
    print(shtab.complete(parser, args.shell, preamble=function if args.shell == "bash" else ""))


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser with all commands of pixpro-d2 as sub-commands."""
    whole = argparse.ArgumentParser(prog="pixpro-d2")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers()
    for name, (module, purpose) in cli.COMMANDS.items():
        command = import_module(module, __package__).build_parser()
        commands.add_parser(name, help=purpose, parents=[command], add_help=False)
    return whole


def _complete_values(parser: argparse.ArgumentParser, files: dict[str, Any]) -> None:
    """Let each argument with a value complete the names that it takes, or else files, in place."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_values(command, files)
        elif "--init" in action.option_strings:
            action.choices = start_names()
        elif action.nargs != 0 and not action.choices:
            takes_config = CONFIG_OPTIONS.intersection(action.option_strings)
            action.complete = _names_or(files) if takes_config else files  # type: ignore[attr-defined]  # shtab's


def _recipes() -> str:
    return " ".join(name.removesuffix(".yaml") for name in config_names())


def _names_or(files: dict[str, Any]) -> dict[str, Any]:
    """Return the completion of names of recipes and of files, in each shell; tcsh completes only files."""
    return {
        **files,
        "bash": CONFIG_FUNCTION,
        "zsh": f"{{compadd -- {_recipes()}; _files}}",
        "fish": f"{_recipes()} {files['fish']}",
    }
