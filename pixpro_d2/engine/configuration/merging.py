"""Merge the values of a config file; explain in one sentence why a file cannot be merged."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterator
from typing import IO, Any

import yaml
from detectron2.config import CfgNode

from ...config_files import base_path, missing_file
from ...utils.errors import UsageError
from ...utils.nested import flatten, place_of, set_value
from .name_lists import single_names_accepted

NULLABLE = ("SOLVER.WEIGHT_DECAY_BIAS",)  # keys that may have no value
TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: 'a list, such as "[1, 2]"',
    tuple: 'a list, such as "(1, 2)"',
}
# Keys of detectron2 after v0.6, with the default that keeps the behaviour of v0.6.
LATER_KEYS: dict[str, Any] = {
    "FLOAT32_PRECISION": "",
    "DATALOADER.REPEAT_SQRT": True,
    "SOLVER.NUM_DECAYS": 3,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": False,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": 50,
}
_MISMATCH = re.compile(
    r"Type mismatch \(<class '(?:\w+\.)*(\w+)'> vs\. .*?\) with values \(.* vs\. (.*)\) for config key: (\S+)",
    re.DOTALL,
)


def merge_file(cfg: CfgNode, path: str) -> None:
    """Merge a config file, and the files that it is based on, into ``cfg``.

    Raises:
        UsageError: for a missing or empty file, a file that is no YAML, a key that is unknown or written twice, a value
            of another type, or a file for another version of detectron2's config.
    """
    try:
        given = CfgNode(read_values(path))
        _check_given(given, cfg.VERSION, path)
        _make_numbers_float(given, cfg)
        with single_names_accepted(cfg):
            cfg.merge_from_other_cfg(given)
    except UsageError:
        raise
    except (KeyError, AssertionError) as error:  # yacs raises these for an unknown key
        raise UsageError(
            f"Config {path}, or its _BASE_: {unknown_key(cfg, str(error.args[0]).rpartition(': ')[2])}"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"Config {path}, in _BASE_: {missing_file(error.filename)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"Config {path} is no text: name a .yaml file.") from error
    except ValueError as error:
        raise UsageError(f"Config {path}: {_in_words(error)}.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"Config {path}: {' '.join(str(error).split())}.") from error


@contextlib.contextmanager
def later_keys_known(cfg: CfgNode) -> Iterator[None]:
    """Accept the keys of ``LATER_KEYS`` in merges into ``cfg`` within this context; remove them at its end.

    Raises:
        UsageError: at the end of the context, if a removed key has another value than its default.
    """
    added = {}
    for key, default in LATER_KEYS.items():
        node, name = place_of(cfg, key)
        if name not in node:
            node[name] = added[key] = default
    yield
    for key, default in added.items():
        node, name = place_of(cfg, key)
        value = node.pop(name)
        if value != default:
            raise UsageError(
                f"{key} is {value!r}, a key of detectron2 after v0.6, but v0.6 is installed: take the key out, or "
                "install detectron2 from its main branch."
            )


def read_values(path: str) -> dict[str, Any]:
    """Return the values of a config file and of the files that it is based on."""
    return _CheckedFiles.load_yaml_with_base(path)


class _CheckedFiles(CfgNode):
    """Check each file that detectron2's config opens: PyYAML silently takes the last value of a key.

    ``_BASE_`` may name configs of the package.
    """

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        with super()._open_cfg(filename) as file:
            text = file.read()
        root = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise UsageError(f"Config {filename} has no keys: write them as lines of KEY: VALUE.")
        _check_written_once(root, filename)
        return io.StringIO(yaml.serialize(root) if _find_bases(root, filename) else text)


def _find_bases(root: yaml.MappingNode, path: str) -> bool:
    """Replace names of configs of the package in ``_BASE_`` by paths, in place; return whether there are such names."""
    found = False
    for value in (value for key, value in root.value if key.value == "_BASE_"):
        for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            base = base_path(node.value, path) if isinstance(node, yaml.ScalarNode) else node.value
            found, node.value = found or base != node.value, base
    return found


def _check_written_once(node: yaml.MappingNode, path: str, prefix: str = "") -> None:
    seen = set()
    for name, value in node.value:
        key = f"{prefix}{name.value}"
        if key in seen and name.value != "<<":
            raise UsageError(f"Config {path} has {key} twice, in line {name.start_mark.line + 1} again: join the two.")
        seen.add(key)
        if isinstance(value, yaml.MappingNode):
            _check_written_once(value, path, f"{key}.")


def _make_numbers_float(given: CfgNode, cfg: CfgNode) -> None:
    """Convert the whole numbers of keys that hold numbers, in place, as on the command line."""
    known = flatten(cfg)
    for key, value in flatten(given).items():
        if type(value) is int and type(known.get(key)) is float:
            set_value(given, key, float(value))


def _check_given(given: CfgNode, version: int, path: str) -> None:
    """Check that the keys of a file have values, and that the file is for this version of detectron2's config."""
    empty = [key for key, value in flatten(given).items() if value is None and key not in NULLABLE]
    if empty:
        raise UsageError(f"Config {path}: {empty[0]} has no value; give it one, or take the line out.")
    if given.get("VERSION", version) != version:
        raise UsageError(
            f"Config {path} is for VERSION {given.VERSION} of detectron2's config, but this detectron2 has VERSION "
            f"{version}: rename the keys that have changed, and remove the line VERSION."
        )


def unknown_key(cfg: CfgNode, key: str) -> str:
    """Return one sentence about a key that ``cfg`` does not have, with the most similar key of ``cfg``."""
    known = list(flatten(cfg))
    similar = difflib.get_close_matches(key.upper(), known, n=1)
    # The message of yacs holds only the last part of the key.
    similar = similar or [name for name in known if difflib.get_close_matches(key.upper(), [name.split(".")[-1]])]
    return f"There is no config key '{key}'{f'; did you mean {similar[0]}?' if similar else '.'}"


def _in_words(error: ValueError) -> str:
    """Return yacs' message about a value of another type as the end of a sentence; another message as it is."""
    found = _MISMATCH.fullmatch(str(error))
    if not found:
        return str(error).removesuffix(".")
    kind, value, key = found.groups()
    words = {known.__name__: words for known, words in TYPES.items()}
    needed = words.get(kind, "a group of keys" if kind == "CfgNode" else "a name or a list of names")
    return f"{key} is {' '.join(value.split())}; it must be {needed}"
