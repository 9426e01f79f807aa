"""Choose the curves that are drawn together, and explain them to the reader."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...monitoring.curves import Curve, ratio, thin
from .levels import level_of, levels_of
from .results import is_per_class, is_result
from .runs import Run
from .summary import collapsed_share, spread_std, step_times

OTHER = "Other recorded values"
MAX_POINTS = 50_000  # points of all lines of a section, nearly 1 MB
NOT_DRAWN = ("eta_seconds", "chance", "skipped_steps")


@dataclass(frozen=True)
class Family:
    """Hold a group of curves that answer one question: its title, and a note on how to read the curves."""

    title: str
    note: str


FAMILIES = {
    "loss": Family("Loss", "What training minimises, and the part of each level. It should fall, then level off."),
    "feature_std": Family(
        "Spread of features",
        "Standard deviation of the directions that pixels point in. Healthy near the line of spread features; near 0 "
        "all pixels look the same (collapse).",
    ),
    "match_accuracy": Family(
        "Match accuracy",
        "Share of pixels whose most similar pixel in the other view is a true match. It should climb well above "
        "chance.",
    ),
    "effective_rank": Family("Effective rank", "How many directions features really use; falling to 1 is collapse."),
    "effective_rank_projected": Family(
        "Effective rank of projections", "How many directions the projections use; falling to 1 is collapse."
    ),
    "height_r2": Family(
        "Readable height",
        "How well a linear regression tells the height of a pixel in the view from its features; 1 is exact, 0 not "
        "at all. Near 0 no feature tells the place.",
    ),
    "loss_variance": Family(
        "Variance term", "A part of the loss: it is 0 if the features of a level differ enough between pixels."
    ),
    "loss_covariance": Family(
        "Covariance term", "A part of the loss: it is 0 if no two channels of a level's features repeat each other."
    ),
    "loss_distill": Family(
        "Distance from the teacher",
        "A part of the loss: how far the projections of a level are from the teacher's features. It should fall.",
    ),
    "uniformity": Family("Uniformity", "How evenly features lie on the sphere; lower is more even."),
    "ema_distance": Family("Distance of the target", "How far the target branch lags behind the online one."),
    "positive_pairs": Family("Positive pairs", "Pairs of pixels that show the same place, for each image."),
    "images_without_pair": Family(
        "Images without positive pairs", "Share of images whose two views hardly overlap; they teach nothing."
    ),
    "prototypes_in_use": Family(
        "Prototypes in use", "How many prototypes win a pixel of the batch; falling to 1 is collapse."
    ),
    "largest_prototype": Family("Largest prototype", "Share of the pixels that the most frequent prototype wins."),
    "prototype_entropy": Family(
        "Entropy of the prototypes", "How evenly the prototypes are used, in nats; 0 is collapse to one prototype."
    ),
    "assignment_entropy": Family(
        "Entropy of an assignment", "How undecided the assignment of a pixel is, in nats; it should fall."
    ),
    "shared_slots": Family("Shared slots", "Slots that both views of an image contain; they are contrasted."),
    "result": Family("Results", "What each evaluation during training measured."),
    "ema_momentum": Family("Target momentum", "Share of itself that the target branch keeps at each step; rises to 1."),
    "lr": Family("Learning rate", "Warm-up, then the schedule."),
    "images_per_second": Family("Images per second", "Of all processes together."),
    "data_share": Family("Waiting for data", "Share of the time; above 0.1 raise DATALOADER.NUM_WORKERS."),
    "max_mem": Family("GPU memory", "Highest so far, MiB, of the main process."),
}


@dataclass
class Chart:
    """Hold the lines that share one pair of axes."""

    title: str
    #: (name, number of the colour, curve) of each line
    lines: list[tuple[str, int, Curve]] = field(default_factory=list)
    #: (name, value) of each horizontal line
    references: list[tuple[str, float]] = field(default_factory=list)


def split_name(name: str) -> tuple[str | None, str]:
    """Split a recorded value's name into a key of FAMILIES or None, and the rest: "loss_pix_p3" is ("loss", "p3")."""
    if name == "total_loss":
        return "loss", "total"
    if name.startswith("loss_"):
        term = name.removeprefix("loss_").removeprefix("pix_")
        kind, _, level = term.partition("_")
        return (f"loss_{kind}", level) if f"loss_{kind}" in FAMILIES else ("loss", term)
    if is_result(name):
        return "result", name
    parts = name.split("/")
    for part in parts:
        if part in FAMILIES:
            return part, "/".join(other for other in parts if other != part)
    return None, name


def drawn_curves(run: Run) -> dict[str, Curve]:
    """Return the curves of a run by their names in charts.

    Times become speeds. Results of single classes, and results with a single value, are skipped.
    """
    curves = {name: curve for name, curve in run.curves.items() if name.split("/")[0] not in NOT_DRAWN}
    times, waits = step_times(run), curves.get("data_time", [])
    for name in ("time", "step_time", "data_time"):
        curves.pop(name, None)
    batch = run.key("SOLVER.IMS_PER_BATCH")
    if batch:
        curves["images_per_second"] = [(i, batch / value) for i, value in times]
    curves["data_share"] = [(i, min(share, 1.0)) for i, share in ratio(waits, times)]
    parts = [name for name in curves if name.startswith("loss_")]
    if len(parts) == 1:
        del curves[parts[0]]  # it equals the total
    return {
        name: curve
        for name, curve in sorted(curves.items(), key=lambda item: item[0] != "total_loss")
        if curve and not is_per_class(name) and (len(curve) > 1 or not is_result(name))
    }


def build_charts(runs: Sequence[tuple[int, Run]]) -> list[tuple[Family, list[Chart]]]:
    """Build the charts of one or several runs.

    A chart of a single run shows all levels of a family. With several runs, each level has its own chart, with a line
    for each run.

    Args:
        runs: (number of the colour, run) of each run.

    Returns:
        Families with their charts in the order of FAMILIES, other values last. Families without values are skipped.
    """
    families: dict[str | None, dict[str, Chart]] = {}
    drawn = [(colour, run, drawn_curves(run)) for colour, run in runs]
    points = max(20, min(800, MAX_POINTS // max(1, sum(len(curves) for _, _, curves in drawn))))
    for colour, run, curves in drawn:
        levels = levels_of(curves)
        for name, curve in curves.items():
            key, label = split_name(name)
            charts = families.setdefault(key, {})
            title = "" if len(runs) == 1 and key else label
            chart = charts.setdefault(title, Chart(title))
            line = (label, level_colour(label, levels, len(chart.lines))) if len(runs) == 1 else (run.name, colour)
            chart.lines.append((*line, thin(curve, points)))
            for reference in _references(run, key, label):
                if reference not in chart.references:
                    chart.references.append(reference)
    known = [(family, families[key]) for key, family in FAMILIES.items() if key in families]
    rest = [(Family(OTHER, ""), families[None])] if None in families else []
    return [(family, list(charts.values())) for family, charts in known + rest]


def level_colour(label: str, levels: Sequence[str], otherwise: int = 0) -> int:
    """Return the number of a line's colour: the same hue for a level everywhere, dashed for held-out images."""
    level = level_of(label)
    if level not in levels:
        return otherwise
    return 1 + levels.index(level) % 7 + (0 if label == level else 8)


def _references(run: Run, key: str | None, label: str) -> list[tuple[str, float]]:
    spread = spread_std(run)
    if key == "feature_std" and spread:
        return [("spread", spread), ("collapsed", collapsed_share(run) * spread)]
    chance = run.curves.get(f"chance/{label}")
    return [(f"chance {label}".strip(), chance[-1][1])] if key == "match_accuracy" and chance else []


def as_data(chart: Chart) -> dict[str, Any]:
    """Convert a chart to values for JSON: numbers of 5 digits, None for a number that is not finite."""
    return {
        "title": chart.title,
        "lines": [
            {"name": name, "colour": colour, "points": [[i, _rounded(value)] for i, value in curve]}
            for name, colour, curve in chart.lines
        ],
        "references": [{"name": name, "value": _rounded(value)} for name, value in chart.references],
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
