"""The structure of the package: ``python tests/structure.py`` prints files, lines, and imports between packages."""

import ast
import statistics
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "pixpro_d2"
PACKAGES = {path.stem for path in ROOT.iterdir() if path.stem != "__init__" and (path.is_dir() or path.suffix == ".py")}


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, relative to it; functions' imports count, too."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            found |= {".".join(filter(None, (*start, alias.name))) for alias in node.names}
    return found


def package_arrows() -> Counter:
    """Count the imports from each package, or module of the top level, to another."""
    arrows = Counter()
    for path in ROOT.rglob("*.py"):
        start = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for module in imported_modules(path):
            end = module.split(".")[0]
            if end in PACKAGES and end != start and start != "__init__":
                arrows[start, end] += 1
    return arrows


def strongly_connected(arrows: Counter) -> list[set[str]]:
    """Return the sets of two or more packages that import each other, directly or through others."""
    nodes = {node for arrow in arrows for node in arrow}
    reached = {node: {end for start, end in arrows if start == node} for node in nodes}
    for through in nodes:
        for node in nodes:
            if through in reached[node]:
                reached[node] |= reached[through]
    cycles = {frozenset(b for b in nodes if b in reached[a] and a in reached[b]) for a in nodes}
    return [set(cycle) for cycle in cycles if len(cycle) > 1]


def main() -> None:
    """Print the table."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    code = {path: count for path, count in lengths.items() if path.name != "__init__.py"}
    largest = max(code, key=code.get)
    print(f"{len(lengths)} files, {sum(lengths.values())} lines; median {statistics.median(code.values()):.0f}")
    print(f"largest: {largest.relative_to(ROOT.parent)}, {code[largest]} lines")
    arrows = package_arrows()
    print(f"{len(arrows)} arrows between packages, cycles: {strongly_connected(arrows) or 'none'}")
    for package in sorted(PACKAGES):
        ends = sorted(f"{end} ({count})" for (start, end), count in arrows.items() if start == package)
        print(f"{package:15} -> {', '.join(ends)}")


if __name__ == "__main__":
    main()
