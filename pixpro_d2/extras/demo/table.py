"""The table that the demo ends with, and what it says."""

from statistics import mean

from tabulate import tabulate

from ..study.comparison import averages, estimate, standard_error
from .experiments import METHODS, RANDOM, Size, fine_tuning_name

METRIC = "sem_seg/mIoU"


def gather_values(size: Size, results: dict[str, dict]) -> dict[str, dict]:
    """Return for each initialisation its mIoU in per cent by (seed, 0), as :mod:`pixpro_d2.extras.study` has pairs."""
    return {
        title: {(seed, 0): results[fine_tuning_name(title, seed)]["metrics"][METRIC] for seed in size.seeds}
        for title in (RANDOM, *METHODS)
    }


def table(values: dict[str, dict]) -> str:
    """Return a table: the mean of each initialisation with its standard error, each seed, gains over random weights."""
    rows = [
        (title, estimate(own), ", ".join(f"{value:.1f}" for value in own.values()), estimate(gains(values, title), "+"))
        for title, own in values.items()
    ]
    headers = ("begins with", "mIoU", "of each seed", "gain over random weights")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def verdict(values: dict[str, dict], title: str = "PixPro") -> str:
    """Return whether pre-training helped, and whether the gain is more than noise, in one sentence."""
    found = gains(values, title)
    gain, error = mean(averages(found)), standard_error(found)
    words = estimate(found, "+")
    if abs(gain) <= 2 * error:
        return f"{title} against random weights: {words} mIoU, within two standard errors of nothing."
    return f"{title} {'helps' if gain > 0 else 'harms'}: {words} mIoU over random weights, beyond two standard errors."


def gains(values: dict[str, dict], title: str) -> dict:
    """Return the differences to random weights seed by seed; {} for random weights."""
    if title == RANDOM:
        return {}
    return {pair: value - values[RANDOM][pair] for pair, value in values[title].items()}
