"""docs/config.md: every config key that this project adds, out of the comments in pixpro_d2/config.py.

    python -m pixpro_d2.tools.document_config            # write the page
    python -m pixpro_d2.tools.document_config --check    # exit with 1 if it is not what would be written

A comment stands in the lines above a key; keys without one, in the lines right below, share it. A comment above a node
is about the node alone.
"""

import argparse
import ast
import io
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path

import pixpro_d2.config

from ..utils.errors import UsageError
from ..utils.files import write_file

SOURCE = Path(pixpro_d2.config.__file__).resolve()
PAGE = SOURCE.parents[1] / "docs" / "config.md"
HEADER = """# Config keys

The keys that this project adds to [detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html) and
to those of its DeepLab project. They go into a YAML file or, as `KEY VALUE`, to the end of a command. A key that does
not exist is an error, which names the most similar one.

This page is made by `python -m pixpro_d2.tools.document_config` out of the comments in
[`pixpro_d2/config.py`](../pixpro_d2/config.py): change them there.
"""


@dataclass(frozen=True)
class Group:
    """What one comment is about.

    Attributes:
        node (str): that its keys are in, as ``MODEL.PIXPRO``.
        comment (str): on one line.
        defaults (dict): key within the node -> default value; empty where the comment is about the node as a whole.
    """

    node: str
    comment: str
    defaults: dict


def read_groups(source):
    """What a Python file assigns to ``cfg``.

    Args:
        source (str): of the file; the values are literals, or ``CN()`` for a node.

    Returns:
        list[Group]: in the order of the file.

    Raises:
        UsageError: for a key without a comment.
    """
    comments = _comments(source)
    groups, previous = [], None  # the latter: last line of a key that may share its comment with the next
    for first, last, assignment in _assignments(ast.parse(source).body):
        is_node = isinstance(assignment.value, ast.Call)
        path = ast.unparse(assignment.targets[0]).removeprefix("cfg.")
        node, _, key = (path, "", "") if is_node else path.rpartition(".")
        comment = _comment_above(comments, first)
        if comment:
            groups.append(Group(node, comment, {}))
        elif not is_node and not (groups and groups[-1].node == node and previous == first - 1):
            raise UsageError(f"{path} in line {first} has no comment above it: say what it means.")
        if not is_node:
            groups[-1].defaults[key] = ast.literal_eval(assignment.value)
        previous = None if is_node else last
    return groups


def _assignments(body):
    """(first line, last line, statement) of the assignments to attributes of ``cfg``, also within an ``if``."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            yield from _assignments(statement.body)
        elif isinstance(statement, ast.If):
            for _, last, assignment in _assignments(statement.body):
                yield statement.lineno, last, assignment
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).startswith("cfg."):
            yield statement.lineno, statement.end_lineno, statement


def _comments(source):
    """Line number -> text, of the lines that are a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def _comment_above(comments, line):
    lines = []
    while line - 1 in comments:
        line -= 1
        lines.insert(0, comments[line])
    return " ".join(lines)


def render_page(groups):
    """Markdown of the page: a section for each node, in alphabetical order."""
    sections = {}
    for group in groups:
        sections.setdefault(group.node, []).append(group)
    return HEADER + "".join(_render_section(node, sections[node]) for node in sorted(sections))


def _render_section(node, groups):
    lines = ["", f"## {node}", ""]
    for group in groups:
        if not group.defaults:
            lines += [group.comment, ""]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    for group in groups:
        if group.defaults:
            keys = "<br>".join(f"`{key}`" for key in group.defaults)
            values = "<br>".join(f"`{value}`" if value != "" else '`""`' for value in group.defaults.values())
            lines.append(f"| {keys} | {values} | {_cell(group.comment)} |")
    return "\n".join(lines) + "\n"


def _cell(text):
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.document_config", description="Write docs/config.md from pixpro_d2/config.py."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not current")
    args = parser.parse_args(argv)
    try:
        page = render_page(read_groups(SOURCE.read_text(encoding="utf-8")))
        if not args.check:
            write_file(PAGE, lambda path: Path(path).write_text(page, encoding="utf-8"))
            print(PAGE)
        elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
            raise UsageError(f"{PAGE} is not current: run `python -m pixpro_d2.tools.document_config`.")
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
