"""Merge the KEY VALUE pairs of a command line: find the keys, and convert values to the types of the keys."""

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...utils.errors import UsageError
from ...utils.nested import flatten, set_value
from .merging import NULLABLE, TYPES, unknown_key
from .name_lists import NAME_LISTS

SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_KEY = re.compile(r"[A-Z_][A-Z0-9_]*(\.[A-Z0-9_]+)*")


def merge_options(cfg: CfgNode, words: Sequence[Any]) -> None:
    """Set the values of KEY VALUE pairs in ``cfg``, converted to the types of its keys.

    A switch may be true or yes, a whole number 2.0 or 1e4. A list of one element may be the element alone. Text needs
    no quotes.

    Raises:
        UsageError: for an unknown key, a key without a value, or a value of another type.
    """
    known = flatten(cfg)
    for i in range(0, len(words), 2):
        key = words[i]
        if key not in known:
            raise UsageError(_no_key(cfg, known, words, i))
        if i + 1 == len(words):
            raise UsageError(f"Options come in pairs of KEY VALUE, but {key} has no value.")
        if isinstance(words[i + 1], str) and words[i + 1] in known:
            raise UsageError(f"Options come in pairs of KEY VALUE, but {key} has no value before {words[i + 1]}.")
        set_value(cfg, key, _typed(key, words[i + 1], known[key]))


def _no_key(cfg: CfgNode, known: Mapping[str, Any], words: Sequence[Any], i: int) -> str:
    """Return one sentence about word ``i``, which is in the place of a key but is no key."""
    word = str(words[i])
    if word.startswith("-"):
        return f"There is no option '{word}': the options are listed by --help."
    name, equals, value = word.partition("=")
    if equals and name in known:
        return f"'{word}' is no KEY VALUE pair: write {name} {value}, with a space."
    below = [key for key in known if key.startswith(f"{word}.")]
    if below:
        return f"{word} is a group of config keys: name one of them, such as {below[0]}."
    if i and not (_KEY.fullmatch(word) or word.split(".")[0].upper() in cfg):
        return (
            f"'{word}' is in the place of a KEY, behind {words[i - 2]} {words[i - 1]}: put a value of several words in "
            "quotes."
        )
    return unknown_key(cfg, word)


def _typed(key: str, value: Any, example: Any) -> Any:
    """Return ``value`` converted to the type of ``example``, the present value of the key."""
    if isinstance(value, str) and not (isinstance(example, str) and not _is_quoted(value)):
        value = literal(value)
    if value is None and key not in NULLABLE:
        raise UsageError(f"{key} is None; give it a value, or leave the key out.")
    if key in NAME_LISTS and not isinstance(value, (str, list, tuple)):
        raise UsageError(f"{key} is {value}; it must be a name or a list of names.")
    if key in NULLABLE and not (value is None or type(value) in (int, float)):
        raise UsageError(f"{key} is {value}; it must be a number or None.")
    if key in NAME_LISTS or key in NULLABLE:
        return value
    kind = type(example)
    if kind not in (list, tuple):
        value = _scalar(value, kind)
        fits = type(value) is kind
    else:
        if not isinstance(value, (list, tuple)) and not str(value).startswith(("(", "[", "{")):
            value = (value,)
        fits = isinstance(value, (list, tuple)) and _same_leaves(value, example)
    if not fits:
        raise UsageError(f"{key} is {value}; it must be {TYPES[kind]}{_of_what(example)}.")
    return kind(value)


def _scalar(value: Any, kind: type) -> Any:
    """Return ``value`` converted to ``kind`` if it is one of the accepted forms; otherwise as it is."""
    if kind is bool and type(value) in (str, int):
        return SWITCHES.get(str(value).lower(), value)
    if kind is int and type(value) is float and math.isfinite(value) and value.is_integer():
        return int(value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is float and isinstance(value, str) and value.strip("+-").lower() in ("nan", "inf", "infinity"):
        return float(value)  # the check of ranges refuses it
    return value


def _same_leaves(value: Sequence[Any], example: Sequence[Any]) -> bool:
    """Return whether two lists, perhaps of lists, both hold numbers, both text, or both switches."""
    wanted, found = set(_leaf_kinds(example)), set(_leaf_kinds(value))
    return len(wanted) != 1 or found <= wanted


def _of_what(example: Any) -> str:
    """Return the words for the elements of a list of numbers; "" for other values."""
    return ", of numbers" if isinstance(example, (list, tuple)) and set(_leaf_kinds(example)) == {float} else ""


def _leaf_kinds(value: Sequence[Any]) -> Iterator[type]:
    """Yield the types of the elements of nested lists; whole numbers count as float."""
    for part in value:
        if isinstance(part, (list, tuple)):
            yield from _leaf_kinds(part)
        else:
            yield float if type(part) is int else type(part)


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def literal(text: str) -> Any:
    """Return the Python value that ``text`` writes; otherwise the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
