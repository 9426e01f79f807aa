"""Accuracies by hand, and in detectron2's evaluation loop, log and check of expected results."""

import pytest
import torch
from classification_helpers import classifier_cfg
from data_helpers import logged
from detectron2.engine.hooks import EvalHook
from detectron2.evaluation import inference_on_dataset, print_csv_format, verify_results
from detectron2.utils.events import EventStorage

from pixpro_d2.evaluation.classification import ClassificationEvaluator

# Seven classes, whose scores fall from class 6 to class 0.
SCORES = torch.arange(7.0)


def results_of(batches):
    """Evaluate batches of (label, scores)."""
    evaluator = ClassificationEvaluator()
    evaluator.reset()
    for batch in batches:
        inputs = [{"category_id": label} for label, _ in batch]
        evaluator.process(inputs, [{"scores": scores} for _, scores in batch])
    return evaluator.evaluate()


def test_top1_and_top5_by_hand():
    # Rank of label 6 is 1, of 5 is 2, of 2 is 5, of 1 is 6.
    batches = [[(6, {"linear": SCORES}), (5, {"linear": SCORES})], [(2, {"linear": SCORES}), (1, {"linear": SCORES})]]
    assert results_of(batches) == {"classification": {"linear_top1": 25, "linear_top5": 75}}


def test_each_kind_of_scores_counts_alone():
    both = {"knn20": SCORES, "knn200": -SCORES}
    results = results_of([[(6, both), (0, both), (6, both)]])["classification"]
    assert list(results) == ["knn20_top1", "knn20_top5", "knn200_top1", "knn200_top5"]
    assert [round(x, 6) for x in results.values()] == [66.666667, 66.666667, 33.333333, 33.333333]


def test_fewer_than_five_classes():
    scores = {"linear": torch.tensor([0.1, 0.7, 0.2])}
    results = results_of([[(0, scores), (1, scores)]])
    assert results == {"classification": {"linear_top1": 50, "linear_top5": 100}}


def test_no_hit_is_zero_per_cent():
    assert results_of([[(0, {"linear": SCORES})]]) == {"classification": {"linear_top1": 0, "linear_top5": 0}}


def test_reset_forgets():
    evaluator = ClassificationEvaluator()
    evaluator.process([{"category_id": 0}], [{"scores": {"linear": SCORES}}])
    evaluator.reset()
    evaluator.process([{"category_id": 6}], [{"scores": {"linear": SCORES}}])
    assert evaluator.evaluate()["classification"]["linear_top1"] == 100


class Constant(torch.nn.Module):
    """A model that always scores SCORES."""

    def forward(self, batch):
        return [{"scores": {"linear": SCORES}} for _ in batch]


def evaluate():
    loader = [[{"category_id": label}] for label in (6, 5, 2, 1)]
    return inference_on_dataset(Constant(), loader, ClassificationEvaluator())


def test_detectron2_prints_and_verifies_the_results():
    results = evaluate()
    with logged("detectron2.evaluation.testing") as messages:
        print_csv_format(results)
    assert messages == [
        "copypaste: Task: classification",
        "copypaste: linear_top1,linear_top5",
        "copypaste: 25.0000,75.0000",
    ]
    cfg = classifier_cfg("LinearClassifier")
    cfg.TEST.EXPECTED_RESULTS = [["classification", "linear_top1", 25, 0.1]]
    assert verify_results(cfg, results)
    cfg.TEST.EXPECTED_RESULTS = [["classification", "linear_top5", 25, 0.1]]
    with pytest.raises(SystemExit):
        verify_results(cfg, results)


def test_eval_hook_records_flat_metrics():
    hook = EvalHook(0, evaluate)
    with EventStorage() as storage:
        hook.trainer = type("Trainer", (), {"storage": storage, "iter": 0, "max_iter": 1})()
        hook.after_train()
        assert {name: value for name, (value, _) in storage.latest().items()} == {
            "classification/linear_top1": 25,
            "classification/linear_top5": 75,
        }
