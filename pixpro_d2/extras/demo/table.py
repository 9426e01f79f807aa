"""Print the table at the end of the demo, and a verdict."""

from statistics import mean

from tabulate import tabulate

from ..study.comparison import averages, estimate, standard_error
from ..study.experiments import Pair
from .experiments import METHODS, RANDOM, Size, fine_tuning_name

METRIC = "sem_seg/mIoU"


def gather_values(size: Size, results: dict[str, dict]) -> dict[str, dict]:
    """Return the mIoU of each initialisation in per cent by the pair (seed, 0) of :mod:`pixpro_d2.extras.study`."""
    return {
        title: {(seed, 0): results[fine_tuning_name(title, seed)]["metrics"][METRIC] for seed in size.seeds}
        for title in (RANDOM, *METHODS)
    }


def table(values: dict[str, dict]) -> str:
    """Return a table of means with standard errors, single seeds, and gains over random weights."""
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


def gains(values: dict[str, dict], title: str) -> dict[Pair, float]:
    """Return the differences to random weights seed by seed; {} for random weights."""
    if title == RANDOM:
        return {}
    return {pair: value - values[RANDOM][pair] for pair, value in values[title].items()}
