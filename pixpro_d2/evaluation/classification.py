"""Top-1 and top-5 accuracy of image classification."""

from collections import Counter, OrderedDict
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class ClassificationEvaluator(DatasetEvaluator):
    """Count the images whose class is the best, or among the five best, of each kind of scores.

    Scores come from :class:`pixpro_d2.modeling.heads.classifier.LinearClassifier` or
    `knn.KNNClassifier`. The evaluator keeps counts only. Classes of equal score are ranked in
    no particular order.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._hits: Counter[str] = Counter()
        self._count = 0

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Count the hits of a batch.

        Args:
            inputs: with ``category_id``.
            outputs: with ``scores``, dict of name -> (num_classes,) tensor; all outputs have the same names.
        """
        labels = torch.tensor([x["category_id"] for x in inputs])
        for name in outputs[0]["scores"]:
            scores = torch.stack([x["scores"][name] for x in outputs])
            best = scores.topk(min(5, scores.shape[1]), dim=1).indices.cpu()
            hits = best == labels[:, None]
            self._hits[f"{name}_top1"] += int(hits[:, 0].sum())
            self._hits[f"{name}_top5"] += int(hits.sum())
        self._count += len(inputs)

    def evaluate(self) -> dict[str, OrderedDict[str, float]] | None:
        """Compute the accuracies from the counts of all processes.

        Returns:
            {"classification": {"<name>_top1": ..., "<name>_top5": ...}} in per cent, in the main process;
            None in the other processes. With fewer than five classes, all classes are among the five best.
        """
        parts = comm.gather((self._hits, self._count))
        if not comm.is_main_process():
            return None
        # Unlike `+`, update keeps a count of 0.
        hits: Counter[str] = Counter()
        for part, _ in parts:
            hits.update(part)
        count = sum(part_count for _, part_count in parts)
        return {"classification": OrderedDict((name, 100 * x / count) for name, x in hits.items())}
