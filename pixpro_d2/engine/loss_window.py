"""Losses of several iterations, summed where they are computed and read in one go."""

import torch


class LossWindow:
    """The losses since the last reading, on their device, and the time spent waiting for data.

    What is infinite or NaN is left out of the means.
    """

    def __init__(self):
        self.length, self.data_time = 0, 0.0
        self._sums, self._counts = {}, {}

    def add(self, losses):
        """Add the losses (dict of str to 0-d Tensor) of a batch, or of a part of one.

        Returns:
            Tensor: 0-d bool, whether all of them are finite.
        """
        finite = []
        for name, loss in losses.items():
            loss = loss.detach().float()
            finite.append(loss.isfinite())
            self._sums[name] = self._sums.get(name, 0) + loss.nan_to_num(0, 0, 0)
            self._counts[name] = self._counts.get(name, 0) + finite[-1]
        return torch.stack(finite).all()

    def read(self, *others):
        """Wait for the device, once.

        Args:
            others (Tensor): 0-d, to be read with the losses.

        Returns:
            tuple[dict, list]: (sum, number) of each loss, and the values of ``others``.
        """
        values = [*self._sums.values(), *self._counts.values(), *others]
        values = torch.stack([x.float() for x in values]).tolist()
        size = len(self._sums)
        return dict(zip(self._sums, zip(values[:size], values[size:]))), values[2 * size :]


def mean_losses(sums):
    """Mean of each loss, NaN of none, from the (sum, number) of each that all processes have read."""
    means = {}
    for name in sums[0]:
        totals, counts = zip(*(of_one[name] for of_one in sums))
        means[name] = sum(totals) / sum(counts) if any(counts) else float("nan")
    return means
