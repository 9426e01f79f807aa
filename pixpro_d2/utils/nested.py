"""Read, set and flatten the values of nested dicts, such as a config."""

from collections.abc import Mapping
from typing import Any


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by their whole keys, such as ``SOLVER.BASE_LR``, in their order."""
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def value_of(node: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as ``SOLVER.BASE_LR``."""
    value: Any = node
    for part in key.split("."):
        value = value[part]
    return value


def set_value(node: dict[str, Any], key: str, value: Any) -> None:
    """Set a key such as ``SOLVER.BASE_LR`` to a value of any type."""
    inner, name = place_of(node, key)
    inner[name] = value


def place_of(node: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the inner dict that holds ``key``, and the name of the key in this dict."""
    path, _, name = key.rpartition(".")
    return (value_of(node, path) if path else node), name
