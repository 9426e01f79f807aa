"""Judge from its curves whether a run looks healthy, and say so in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from .curves import Curve, finite, medians

GOOD, WATCH, BAD = range(3)
VERDICTS = ("Looks healthy", "Worth a look", "Looks unhealthy")
READINGS = 5  # number of values that a curve needs to be judged

MIN_SPREAD_SHARE = 0.5  # features count as spread from this share of the standard deviation 1 / sqrt(C) on
MIN_FALL = 3  # multiple of its noise by which a loss must fall; of flat losses of five readings, 11 % seem to
MIN_KEPT_FALL = 0.25  # share of its fall that a loss must keep: it may rise as the target's momentum goes to 1
MAX_VARIANCE_RATIO = 1.25  # a variance term above this multiple of its first value has risen, and not by noise
MIN_PROTOTYPES = 2  # prototypes of a level that win a pixel of a batch; with fewer, all pixels are alike
MIN_KEPT_PROTOTYPES = 0.25  # share of its first prototypes in use that a level must keep: few tell only places
MAX_UNPAIRED_SHARE = 0.1  # share of images without a positive pair that is still acceptable
MIN_CHANCE_RATIO = 1.5  # a match accuracy must reach this multiple of chance to have learned anything


@dataclass(frozen=True)
class Finding:
    """Hold the result of one check: ``grade`` is GOOD, WATCH or BAD; ``text`` is a clause of a sentence."""

    grade: int
    text: str


def assess(curves: Mapping[str, Curve], spread: float | None = None, collapsed: float = 0.1) -> list[Finding]:
    """Check the curves of a run.

    Args:
        curves: curves by name, see :mod:`.curves`: ``total_loss``, and if they exist
            ``loss_pix_LEVEL``, ``loss_variance_LEVEL``, ``feature_std/LEVEL``, ``effective_rank/LEVEL``,
            ``images_without_pair/LEVEL``, ``match_accuracy/LEVEL``, ``chance/LEVEL``, ``prototypes_in_use/LEVEL``;
            of held-out images ``test/feature_std/LEVEL``;
            ``skipped_steps``, the number of steps so far that were skipped because of non-finite gradients.
        spread: standard deviation of features with evenly spread directions, 1 / sqrt(C).
        collapsed: share of ``spread`` below which features have collapsed.

    Returns:
        The findings; empty if the curves are too short to judge.
    """
    findings = _loss(curves.get("total_loss", [])) + _broken(curves)
    findings += _idle(_levels(curves, "loss_pix", separator="_"))
    trained = {level: medians(curve)[-1] for level, curve in _levels(curves, "feature_std").items()}
    if spread and trained:
        findings += _spread(trained, spread, collapsed)
        # All images of one data set may get the same features while another data set keeps the batches spread.
        held_out = {level: curve[-1][1] for level, curve in _levels(curves, "test/feature_std", readings=1).items()}
        findings += _spread(held_out, spread, collapsed, " on held-out images")
    findings += _terms(_levels(curves, "loss_variance", separator="_"))
    findings += _prototypes(_levels(curves, "prototypes_in_use"))
    findings += _pairs(_levels(curves, "images_without_pair"))
    findings += _matches(_levels(curves, "match_accuracy"), _levels(curves, "chance"))
    if curves.get("skipped_steps"):
        skipped = int(curves["skipped_steps"][-1][1])
        findings.append(Finding(WATCH, f"{skipped} steps were skipped because of infinite or NaN gradients"))
    return findings


def verdict(findings: list[Finding]) -> tuple[int | None, str, str]:
    """Judge a run by the worst of its findings.

    Returns:
        The grade (None without findings), the verdict, and the reasons: the problems, or else the good findings.
        f"{verdict}: {reasons}" is a sentence.
    """
    if not findings:
        return None, "Too early to tell", f"fewer than {READINGS} readings are recorded."
    worst = max(finding.grade for finding in findings)
    *first, last = [finding.text for finding in findings if finding.grade == worst]
    return worst, VERDICTS[worst], f"{', '.join(first)}{' and ' if first else ''}{last}."


def _levels(
    curves: Mapping[str, Curve], quantity: str, readings: int = READINGS, separator: str = "/"
) -> dict[str, Curve]:
    """Return the finite values of a quantity by level, for the levels with at least ``readings`` values."""
    start = quantity + separator
    found = {name.removeprefix(start): finite(curve) for name, curve in curves.items() if name.startswith(start)}
    return {level: curve for level, curve in found.items() if len(curve) >= readings}


def _loss(curve: Curve) -> list[Finding]:
    values = finite(curve)
    findings = []
    if curve and not math.isfinite(curve[-1][1]):
        findings.append(Finding(BAD, "the loss is infinite or NaN"))
    elif len(values) < len(curve):
        findings.append(Finding(WATCH, f"the loss was infinite or NaN {len(curve) - len(values)} times"))
    return findings + (_course(values) if len(values) >= READINGS else [])


def _course(curve: Curve) -> list[Finding]:
    """Judge the course of a loss from its very first value: a tenth of a long run may already be at the minimum."""
    course = medians(curve)
    first, lowest, last = curve[0][1], min(course), course[-1]
    if first - last <= MIN_FALL * _noise(curve):
        beyond = " beyond its noise" if last < first else ""
        return [Finding(WATCH, f"the loss has not fallen{beyond}: it went from {first:.3g} to {last:.3g}")]
    if first - last < MIN_KEPT_FALL * (first - lowest):
        return [Finding(WATCH, f"the loss fell from {first:.3g} to {lowest:.3g}, but is at {last:.3g} again")]
    return [Finding(GOOD, f"the loss fell from {first:.3g} to {last:.3g}")]


def _noise(curve: Curve) -> float:
    """Return the median distance of the steps between neighbouring readings from their median, the trend."""
    steps = [after - before for (_, before), (_, after) in pairwise(curve)]
    trend = median(steps)
    return median(abs(step - trend) for step in steps)


def _broken(curves: Mapping[str, Curve]) -> list[Finding]:
    """Find the levels whose newest features were not finite, in training or in an evaluation."""
    measures = ("feature_std/", "effective_rank/")
    newest = {name: curve[-1][1] for name, curve in curves.items() if curve and name.startswith(measures)}
    levels = sorted({name.split("/", 1)[1] for name, value in newest.items() if not math.isfinite(value)})
    return [Finding(BAD, f"the features of {', '.join(levels)} are infinite or NaN")] if levels else []


def _idle(levels: Mapping[str, Curve]) -> list[Finding]:
    """Find the levels whose pixel loss is always 0 beside others, as PixContrast's is with a map of one pixel."""
    idle = [level for level, curve in levels.items() if not any(value for _, value in curve)]
    if not idle or len(idle) == len(levels):  # with PIXEL_WEIGHT 0 all are
        return []
    return [Finding(WATCH, f"the pixel loss of {', '.join(sorted(idle))} is always 0, so it teaches nothing")]


def _spread(levels: Mapping[str, float], spread: float, collapsed: float, where: str = "") -> list[Finding]:
    shares = {level: value / spread for level, value in levels.items()}
    if not shares:
        return []
    lowest = min(shares, key=shares.__getitem__)
    share = f"standard deviation {100 * shares[lowest]:.0f} % of 1/√C"
    if shares[lowest] < collapsed:
        return [Finding(BAD, f"the features of {lowest} have collapsed{where} ({share})")]
    if shares[lowest] < MIN_SPREAD_SHARE:
        return [Finding(WATCH, f"the features of {lowest} point in similar directions{where} ({share})")]
    return [Finding(GOOD, f"features are spread{where} ({share} or more)")]


def _terms(levels: Mapping[str, Curve]) -> list[Finding]:
    """Judge the variance term by the level where it keeps most of its first value."""
    kept = {level: medians(curve)[-1] / curve[0][1] for level, curve in levels.items() if curve[0][1] > 0}
    if not kept:
        return []
    worst = max(kept, key=kept.__getitem__)
    text = f"the variance term of {worst} is at {100 * kept[worst]:.0f} % of its first value"
    return [Finding(GOOD if kept[worst] <= MAX_VARIANCE_RATIO else WATCH, text)]


def _prototypes(levels: Mapping[str, Curve]) -> list[Finding]:
    """Judge the prototypes of SlotCon: their number by the lowest level, and the share that a level keeps in use."""
    used = {level: medians(curve)[-1] for level, curve in levels.items()}
    if not used:
        return []
    fewest = min(used, key=used.__getitem__)
    if used[fewest] < MIN_PROTOTYPES:
        return [Finding(BAD, f"one prototype wins nearly all pixels of {fewest}")]
    first = {level: curve[0][1] for level, curve in levels.items()}
    lost = min(used, key=lambda level: used[level] / max(first[level], 1))
    if used[lost] < MIN_KEPT_PROTOTYPES * first[lost]:
        return [Finding(WATCH, f"{lost} uses {used[lost]:.0f} prototypes, after {first[lost]:.0f} at the start")]
    return [Finding(GOOD, f"{used[fewest]:.0f} prototypes or more are in use")]


def _pairs(levels: Mapping[str, Curve]) -> list[Finding]:
    shares = {level: sum(value for _, value in curve) / len(curve) for level, curve in levels.items()}
    if not shares:
        return []
    worst = max(shares, key=shares.__getitem__)
    share = f"{100 * shares[worst]:.0f} %"
    if shares[worst] > MAX_UNPAIRED_SHARE:
        return [Finding(WATCH, f"{share} of the images have no positive pair on {worst}")]
    return [Finding(GOOD, "nearly all images have positive pairs")]


def _matches(levels: Mapping[str, Curve], chances: Mapping[str, Curve]) -> list[Finding]:
    both = sorted(levels.keys() & chances.keys())
    ends = {level: (medians(levels[level])[-1], medians(chances[level])[-1]) for level in both}
    ends = {level: end for level, end in ends.items() if end[1] < 1}  # a map of one pixel always matches
    if not ends:
        return []
    # If a random choice is often right, require at most half of the distance from chance to perfect accuracy.
    needed = {level: min(MIN_CHANCE_RATIO * chance, (1 + chance) / 2) for level, (_, chance) in ends.items()}
    worst = min(ends, key=lambda level: ends[level][0] / max(needed[level], 1e-12))
    accuracy, chance = ends[worst]
    text = f"{100 * accuracy:.0f} % of the pixels of {worst} find their match (by chance {100 * chance:.0f} %)"
    return [Finding(GOOD, text) if accuracy >= needed[worst] else Finding(WATCH, f"only {text}")]
