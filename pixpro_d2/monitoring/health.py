"""Whether a run looks healthy, told from its curves in words."""

import math
from dataclasses import dataclass

from .curves import finite, medians

GOOD, WATCH, BAD = range(3)
VERDICTS = ("Looks healthy", "Worth a look", "Looks unhealthy")
READINGS = 5  # of a curve that can be judged

NEAR = 0.5  # share of the standard deviation of spread features that counts as spread
KEPT = 0.25  # share of its fall that a loss keeps: it may rise again as the momentum of the target goes to 1
RISEN = 1.25  # times its first value from which on a variance term has risen, and not by noise
FEW = 0.1  # share of images without a positive pair that is no longer few
ABOVE_CHANCE = 1.5  # times chance that a match accuracy must reach to have learned anything


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``grade`` is GOOD, WATCH or BAD; ``text`` a clause of a sentence."""

    grade: int
    text: str


def assess(curves, spread=None, collapsed=0.1):
    """Look at the curves of a run.

    Args:
        curves (dict[str, list]): by name, see :mod:`.curves`; ``total_loss``, and if they are there
            ``loss_variance_LEVEL``, ``feature_std/LEVEL``, ``effective_rank/LEVEL``, ``images_without_pair/LEVEL``,
            ``match_accuracy/LEVEL`` and ``chance/LEVEL``; of held-out images ``test/feature_std/LEVEL``;
            ``skipped_steps``, the number of steps so far with gradients that were not finite.
        spread (float or None): standard deviation of features whose directions are spread, 1 / sqrt(C).
        collapsed (float): share of it below which they have collapsed.

    Returns:
        list[Finding]: empty if there is too little to tell.
    """
    findings = _loss(curves.get("total_loss", [])) + _broken(curves)
    trained = {level: medians(curve)[-1] for level, curve in _levels(curves, "feature_std").items()}
    if spread and trained:
        findings += _spread(trained, spread, collapsed)
        # All images of a data set may get the same features, while those of another hold the spread of batches up.
        held_out = {level: curve[-1][1] for level, curve in _levels(curves, "test/feature_std", readings=1).items()}
        findings += _spread(held_out, spread, collapsed, " on held-out images")
    findings += _terms(_levels(curves, "loss_variance", separator="_"))
    findings += _pairs(_levels(curves, "images_without_pair"))
    findings += _matches(_levels(curves, "match_accuracy"), _levels(curves, "chance"))
    if curves.get("skipped_steps"):
        skipped = int(curves["skipped_steps"][-1][1])
        findings.append(Finding(WATCH, f"{skipped} steps were left out for infinite or NaN gradients"))
    return findings


def verdict(findings):
    """Judge a run by the worst of its findings.

    Returns:
        tuple[int or None, str, str]: grade (None without findings), verdict and reasons: what is wrong, or else what is
        good. f"{verdict}: {reasons}" is a sentence.
    """
    if not findings:
        return None, "Too early to tell", f"fewer than {READINGS} readings are recorded."
    worst = max(finding.grade for finding in findings)
    *first, last = [finding.text for finding in findings if finding.grade == worst]
    return worst, VERDICTS[worst], f"{', '.join(first)}{' and ' if first else ''}{last}."


def _levels(curves, quantity, readings=READINGS, separator="/"):
    """Finite values of a quantity that is recorded for each level, by level; those with enough of them."""
    start = quantity + separator
    found = {name.removeprefix(start): finite(curve) for name, curve in curves.items() if name.startswith(start)}
    return {level: curve for level, curve in found.items() if len(curve) >= readings}


def _loss(curve):
    values = finite(curve)
    findings = []
    if curve and not math.isfinite(curve[-1][1]):
        findings.append(Finding(BAD, "the loss is infinite or NaN"))
    elif len(values) < len(curve):
        findings.append(Finding(WATCH, f"the loss was infinite or NaN {len(curve) - len(values)} times"))
    return findings + (_course(values) if len(values) >= READINGS else [])


def _course(curve):
    """Where a loss went from its very first reading: a tenth of a long run may lie at the bottom already."""
    course = medians(curve)
    first, lowest, last = curve[0][1], min(course), course[-1]
    if last >= first:
        return [Finding(WATCH, f"the loss has not fallen: it went from {first:.3g} to {last:.3g}")]
    if first - last < KEPT * (first - lowest):
        return [Finding(WATCH, f"the loss fell from {first:.3g} to {lowest:.3g}, but is at {last:.3g} again")]
    return [Finding(GOOD, f"the loss fell from {first:.3g} to {last:.3g}")]


def _broken(curves):
    """Levels whose newest features were not finite, in training or in an evaluation."""
    measures = ("feature_std/", "effective_rank/")
    newest = {name: curve[-1][1] for name, curve in curves.items() if curve and name.startswith(measures)}
    levels = sorted({name.split("/", 1)[1] for name, value in newest.items() if not math.isfinite(value)})
    return [Finding(BAD, f"the features of {', '.join(levels)} are infinite or NaN")] if levels else []


def _spread(levels, spread, collapsed, where=""):
    shares = {level: value / spread for level, value in levels.items()}
    if not shares:
        return []
    lowest = min(shares, key=shares.get)
    share = f"standard deviation {100 * shares[lowest]:.0f} % of 1/√C"
    if shares[lowest] < collapsed:
        return [Finding(BAD, f"the features of {lowest} have collapsed{where} ({share})")]
    if shares[lowest] < NEAR:
        return [Finding(WATCH, f"the features of {lowest} point in similar directions{where} ({share})")]
    return [Finding(GOOD, f"features are spread{where} ({share} or more)")]


def _terms(levels):
    """Judge the variance term by the level where it keeps most of its first value."""
    kept = {level: medians(curve)[-1] / curve[0][1] for level, curve in levels.items() if curve[0][1] > 0}
    if not kept:
        return []
    worst = max(kept, key=kept.get)
    text = f"the variance term of {worst} is at {100 * kept[worst]:.0f} % of its first value"
    return [Finding(GOOD if kept[worst] <= RISEN else WATCH, text)]


def _pairs(levels):
    shares = {level: sum(value for _, value in curve) / len(curve) for level, curve in levels.items()}
    if not shares:
        return []
    worst = max(shares, key=shares.get)
    share = f"{100 * shares[worst]:.0f} %"
    if shares[worst] > FEW:
        return [Finding(WATCH, f"{share} of the images have no positive pair on {worst}")]
    return [Finding(GOOD, "nearly all images have positive pairs")]


def _matches(levels, chances):
    both = sorted(levels.keys() & chances.keys())
    ends = {level: (medians(levels[level])[-1], medians(chances[level])[-1]) for level in both}
    if not ends:
        return []
    # Where a random choice is often right, no more than half of the way from there to all matches can be asked.
    needed = {level: min(ABOVE_CHANCE * chance, (1 + chance) / 2) for level, (_, chance) in ends.items()}
    worst = min(ends, key=lambda level: ends[level][0] / max(needed[level], 1e-12))
    accuracy, chance = ends[worst]
    text = f"{100 * accuracy:.0f} % of the pixels of {worst} find their match (by chance {100 * chance:.0f} %)"
    return [Finding(GOOD if accuracy >= needed[worst] else WATCH, text)]
