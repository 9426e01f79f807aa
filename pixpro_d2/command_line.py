"""Parse command lines: KEY VALUE pairs with options anywhere, positive numbers, and the words of a command."""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .utils.errors import UnreadableImage, UsageError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class OptionsAnywhere(argparse.ArgumentParser):
    """Parse a last argument of all remaining words (``argparse.REMAINDER``), and find the options among the words."""

    def parse_known_args(  # type: ignore[override]  # typeshed has overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        words = sys.argv[1:] if args is None else args
        if any(action.nargs == argparse.REMAINDER for action in self._actions):  # not if there are only sub-commands
            words = self._options_first(words)
        return super().parse_known_args(words, namespace)

    def _options_first(self, words: Sequence[str]) -> list[str]:
        """Return ``words`` in the order that argparse needs: options, then pairs.

        An option with a varying number of values keeps its place.
        """
        first, rest, remaining = [], [], list(words)
        while remaining:
            word = remaining.pop(0)
            option = self._option_string_actions.get(word.partition("=")[0]) if word.startswith("--") else None
            if option is None or option.nargs not in (None, 0):
                rest.append(word)
                continue
            first.append(word)
            if option.nargs is None and "=" not in word:
                if not remaining:
                    self.error(f"argument {word}: expected one argument")
                first.append(remaining.pop(0))
        return first + rest


class ShownDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of each argument whose default is a value; the help of the others explains what happens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = action.default is None or action.default is False or action.default in ("", [], ())
        return action.help if nothing else super()._get_help_string(action)


def at_least(least: int) -> Callable[[str], int]:
    """Return a function that parses a whole number of at least ``least``, as the ``type`` of an argument."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return whole_number


positive = at_least(1)


def add_reading(parser: argparse.ArgumentParser, use: str = "") -> None:
    """Add the options of a command that reads images as a run does; ``use`` ends the help of ``--pixel-range``."""
    parser.add_argument(
        "--max-image-pixels",
        type=positive,
        metavar="N",
        help="DATALOADER.MAX_IMAGE_PIXELS of the config to train with (default: that of the configs)",
    )
    parser.add_argument(
        "--pixel-range",
        nargs=2,
        type=float,
        default=(),
        metavar=("LOW", "HIGH"),
        help=f"INPUT.PIXEL_RANGE of the config to train with{use}",
    )


def one_sentence(main: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate ``main``: a UsageError or an UnreadableImage ends the process with one sentence."""

    @functools.wraps(main)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return main(*args, **kwargs)
        except (UsageError, UnreadableImage) as error:
            raise SystemExit(f"error: {error}") from None

    return wrapped


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as the words of KEY VALUE pairs."""
    return [str(word) for pair in options.items() for word in pair]


def program(name: str) -> str:
    """Return the words that started the command ``name``: through ``pixpro-d2``, or as a module of tools."""
    module = name.replace("-", "_")
    is_module = Path(sys.argv[0]).as_posix().endswith((f"tools/{module}.py", f"tools/{module}/__main__.py"))
    return f"python -m pixpro_d2.tools.{module}" if is_module else f"pixpro-d2 {name}"
