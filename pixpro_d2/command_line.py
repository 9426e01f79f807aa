"""Command lines that end in KEY VALUE pairs, and take their options before, between and behind the pairs."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any


class OptionsAnywhere(argparse.ArgumentParser):
    """A parser whose last argument takes all remaining words (``argparse.REMAINDER``), but for the parser's options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        if any(action.nargs == argparse.REMAINDER for action in self._actions):  # not of sub-commands alone
            words = self._options_first(words)
        return super().parse_known_args(words, namespace)

    def _options_first(self, words: Sequence[str]) -> list[str]:
        """``words`` in the order that argparse needs; an option of a varying number of values stays in its place."""
        first, rest, words = [], [], list(words)
        while words:
            word = words.pop(0)
            option = self._option_string_actions.get(word.partition("=")[0]) if word.startswith("--") else None
            if option is None or option.nargs not in (None, 0):
                rest.append(word)
                continue
            first.append(word)
            if option.nargs is None and "=" not in word:
                if not words:
                    self.error(f"argument {word}: expected one argument")
                first.append(words.pop(0))
        return first + rest
