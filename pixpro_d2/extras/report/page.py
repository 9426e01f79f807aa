"""Write the page: all information about the runs, in one HTML file that needs no network."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...monitoring.curves import thin
from ...utils.errors import UsageError
from ...utils.files import write_file
from ...utils.nested import flatten
from . import charts, levels, results
from .answer import better_than_random
from .charts import FAMILIES, Chart, Family
from .differences import differing, side_by_side
from .pictures import embed
from .runs import Run, find_runs, read_run, short_names
from .summary import describe, facts, health

_HERE = Path(__file__).parent
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_MISSING = {
    "curves": "There are no curves, because no values are recorded.",
    "films": "There are no pictures over time: OUTPUT_DIR/vis has no files like features_0000199.png.",
}
FIRST_FILM = "features"  # shows best what a run has learned
_FIRST_CHARTS = {FAMILIES[key] for key in ("loss", "feature_std", "match_accuracy", "effective_rank", "result")}
_PATHS = ("OUTPUT_DIR",)  # keys that differ between any two runs


def write_report(folders: Sequence[str], output: str | Path | None = None) -> str:
    """Write a page about the runs in ``folders``.

    Args:
        folders: OUTPUT_DIRs, or folders that hold several OUTPUT_DIRs.
        output: file to write; by default report.html in the first folder with a run.

    Returns:
        Path of the page.

    Raises:
        UsageError: if a folder has no run, or the page cannot be written.
    """
    found = find_runs(folders)
    page = render([read_run(folder, name) for folder, name in zip(found, short_names(found))])
    first = next((x for x in folders if Path(x).resolve() in (found[0], *found[0].parents)), found[0])
    path = Path(output or Path(first, "report.html"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_file(str(path), lambda partial: Path(partial).write_text(page, encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {path} ({error.strerror}): name a file by --output."
        ) from error


def render(runs: Sequence[Run]) -> str:
    """Render the page about one or more runs as self-contained HTML."""
    film_groups, picture_note = build_films(runs)
    sections = build_sections(runs)
    tables = [table for per_class in (False, True) if (table := build_table(runs, per_class))["names"]]
    parts = {"curves": sections, "films": film_groups}
    return _ENVIRONMENT.get_template("page.html").render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        written=f"{datetime.now():%Y-%m-%d %H:%M}",
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        names=[run.name for run in runs],
        missing=[_MISSING[what] for what, found in parts.items() if not found],
        runs=[build_card(run) for run in runs],
        answers=better_than_random(runs),
        levels=build_levels(runs),
        film_groups=film_groups,
        picture_note=picture_note,
        sections=sections,
        tables=tables,
        config_rows=differing(side_by_side([_config(run) for run in runs])) if len(runs) > 1 else None,
        machine_rows=side_by_side([run.starts[-1]["machine"] if run.starts else {} for run in runs]),
        has_warnings=any(run.warnings for run in runs),
        has_starts=any(run.starts or run.warnings for run in runs),
    )


def _config(run: Run) -> dict[str, Any]:
    return {key: value for key, value in sorted(flatten(run.config).items()) if key not in _PATHS}


def build_card(run: Run) -> dict[str, Any]:
    """Return the overview of a run that begins the page."""
    grade, judged, reasons = health(run)
    losses = run.curves.get("total_loss", [])
    return {
        "name": run.name,
        "what": describe(run),
        "grade": "unknown" if grade is None else ("good", "watch", "bad")[grade],
        "verdict": judged,
        "reasons": reasons,
        "facts": facts(run),
        "remarks": run.remarks,
        "commands": list(dict.fromkeys(start["command"] for start in run.starts)),
        "warnings": sorted(run.warnings, key=lambda found: -found[1]),
        "loss": charts.as_data(charts.Chart("", [("", 0, thin(losses))]))["lines"][0]["points"],
    }


def build_levels(runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """Return (name, size of a bin, number of the colour) of each level that the pre-trainings compare."""
    explained = dict(pair for run in runs for pair in levels.explain(run))
    names = levels.levels_of(explained)
    return [(name, explained[name], charts.level_colour(name, names)) for name in names]


def build_films(runs: Sequence[Run]) -> tuple[list[tuple[str, list[dict[str, Any]]]], str]:
    """Build films from the pictures over time.

    Returns:
        (title, films) of each group, and a sentence about smaller copies. The pictures NAME, or NAME_1, NAME_2 ..., are
        one group. A film holds the pictures of one name from all runs.
    """
    owners = {picture: index for index, run in enumerate(runs) for picture in run.pictures}
    pictures, note = embed(sorted(owners, key=lambda picture: (picture.name != FIRST_FILM, picture.name)))
    films: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for picture, address, (width, height) in pictures:
        frame = {"iteration": picture.iteration, "address": address, "width": width, "height": height}
        films.setdefault(picture.name, {}).setdefault(owners[picture], []).append(frame)
    groups: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(films, key=lambda name: name != FIRST_FILM):
        film = {"name": name, "runs": list(films[name].items())}
        groups.setdefault(re.sub(r"_\d+$", "", name), []).append(film)
    return list(groups.items()), note


def build_sections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Build the charts of pre-trainings and of downstream tasks apart, because losses and lengths do not compare."""
    sections = []
    for title, is_pretraining in (("Pre-training", True), ("Downstream training", False)):
        chosen = [(index, run) for index, run in enumerate(runs) if run.is_pretraining == is_pretraining]
        families = charts.build_charts(chosen)
        if families:
            length = max(curve[-1][0] for _, of in families for chart in of for _, _, curve in chart.lines)
            parts = {
                is_first: [_family(*family) for family in families if (family[0] in _FIRST_CHARTS) == is_first]
                for is_first in (True, False)
            }
            sections.append({"title": title, "length": length, "first": parts[True], "folded": parts[False]})
    return sections


def _family(family: Family, of_family: Sequence[Chart]) -> dict[str, Any]:
    return {"family": family, "charts": [charts.as_data(chart) for chart in of_family]}


def build_table(runs: Sequence[Run], per_class: bool) -> dict[str, Any]:
    """Return the results side by side, with the best score among the runs; 0 if no score is a finite number."""
    names, rows = results.table(runs, per_class)
    columns = zip(*(scores for _, scores in rows))
    best = [max((s.last for s in column if s and math.isfinite(s.last)), default=0.0) for column in columns]
    return {"names": names, "rows": rows, "best": best, "per_class": per_class}
