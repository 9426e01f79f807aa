"""Top-1 and top-5 accuracy of image classification."""

from collections import Counter, OrderedDict

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class ClassificationEvaluator(DatasetEvaluator):
    """Counts the images whose class is the best, or among the five best, of each kind of scores.

    Scores come from :class:`pixpro_d2.modeling.heads.classifier.LinearClassifier` or
    `knn.KNNClassifier`. Nothing but counts is kept. Classes of equal score are ranked in
    no particular order.
    """

    def __init__(self, *, distributed=True):
        """
        Args:
            distributed (bool): whether to join the counts of all processes.
        """
        self._distributed = distributed
        self.reset()

    def reset(self):
        self._hits = Counter()
        self._count = 0

    def process(self, inputs, outputs):
        """
        Args:
            inputs (list[dict]): with ``category_id``.
            outputs (list[dict]): with ``scores``, dict of name -> (num_classes,) tensor; the same names in all.
        """
        labels = torch.tensor([x["category_id"] for x in inputs])
        for name in outputs[0]["scores"]:
            scores = torch.stack([x["scores"][name] for x in outputs])
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices.cpu()
            hits = best == labels[:, None]
            self._hits[f"{name}_top1"] += int(hits[:, 0].sum())
            self._hits[f"{name}_top5"] += int(hits.sum())
        self._count += len(inputs)

    def evaluate(self):
        """
        Returns:
            dict: {"classification": {"<name>_top1": ..., "<name>_top5": ...}} in per cent, in the main process;
            None in the others. With fewer than five classes, all of them are among the five best.
        """
        hits, count = self._hits, self._count
        if self._distributed:
            parts = comm.gather((hits, count))
            if not comm.is_main_process():
                return None
            # Unlike `+`, update keeps a count of 0.
            hits = Counter()
            for part, _ in parts:
                hits.update(part)
            count = sum(part_count for _, part_count in parts)
        return {"classification": OrderedDict((name, 100 * x / count) for name, x in hits.items())}
