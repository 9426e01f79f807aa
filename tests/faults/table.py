"""The table of faults as GitHub shows it."""

from .themes import THEMES

COLUMNS = ("Fault", "Injected", "What happened", "Lost")


def markdown(results):
    """A heading and a table for each theme that any of ``results`` (list[Result]) belongs to."""
    parts = []
    for theme, heading in THEMES.items():
        lines = [_line(_cells(result)) for result in results if result.fault.theme == theme]
        if lines:
            parts.append("\n".join([f"### {heading}\n", _line(COLUMNS), "|---" * len(COLUMNS) + "|", *lines, ""]))
    return "\n".join(parts)


def _cells(result):
    lost = "**not survived**" if result.lost is None else result.lost
    return [result.fault.name, result.fault.how, result.happened, lost]


def _line(cells):
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
