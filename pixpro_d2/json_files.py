"""Small JSON files that say what lies beside them."""

import json
from pathlib import Path

from .checkpoint.writing import write_file


def read_json(path):
    """Content of a JSON file; None where there is none, or it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path, content, indent=None):
    """Write a JSON file, complete or not at all; returns its path, a str."""
    text = json.dumps(content, indent=indent) + "\n"
    return write_file(str(path), lambda partial: Path(partial).write_text(text, encoding="utf-8"))
