"""Write docs/config.md: every config key of this project, from the comments in pixpro_d2/config.py.

    python -m pixpro_d2.tools.document_config            # write the page
    python -m pixpro_d2.tools.document_config --check    # exit with 1 if the page is not current

A comment stands in the lines above a key. Keys without a comment share the comment of the key in the line above. A
comment above a node describes the node alone.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import UsageError
from ..utils.files import write_file

SOURCE = Path(__file__).resolve().parents[1] / "config.py"
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
    """Hold a comment and the keys that it describes.

    Attributes:
        node: node of the keys, such as ``MODEL.PIXPRO``.
        comment: text on one line.
        defaults: default value by the key within the node; empty if the comment describes the node as a whole.
    """

    node: str
    comment: str
    defaults: dict


def read_groups(source: str) -> list[Group]:
    """Read the assignments to ``cfg`` from the text of a Python file.

    Args:
        source: text of the file; the values are literals, or ``CN()`` for a node.

    Returns:
        Groups in the order of the file.

    Raises:
        UsageError: if a key has no comment.
    """
    comments = _comments(source)
    groups: list[Group] = []
    previous = None  # previous: last line of a key whose comment the next key may share
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


def _assignments(body: Iterable[ast.stmt]) -> Iterator[tuple[int, int | None, ast.Assign]]:
    """Yield (first line, last line, statement) of the assignments to attributes of ``cfg``, also within an ``if``."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            yield from _assignments(statement.body)
        elif isinstance(statement, ast.If):
            for _, last, assignment in _assignments(statement.body):
                yield statement.lineno, last, assignment
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).startswith("cfg."):
            yield statement.lineno, statement.end_lineno, statement


def _comments(source: str) -> dict[int, str]:
    """Return the text of each comment line by the line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def _comment_above(comments: dict[int, str], line: int) -> str:
    lines: list[str] = []
    while line - 1 in comments:
        line -= 1
        lines.insert(0, comments[line])
    return " ".join(lines)


def render_page(groups: Iterable[Group]) -> str:
    """Return the page in Markdown: a section for each node, in alphabetical order."""
    sections: dict[str, list[Group]] = {}
    for group in groups:
        sections.setdefault(group.node, []).append(group)
    return HEADER + "".join(_render_section(node, sections[node]) for node in sorted(sections))


def _render_section(node: str, groups: Sequence[Group]) -> str:
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


def _cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.document_config", description="Write docs/config.md from pixpro_d2/config.py."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not current")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    try:
        page = render_page(read_groups(SOURCE.read_text(encoding="utf-8")))
        if not args.check:
            write_file(str(PAGE), lambda path: Path(path).write_text(page, encoding="utf-8"))
            print(PAGE)
        elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
            raise UsageError(f"{PAGE} is not current: run `python -m pixpro_d2.tools.document_config`.")
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
