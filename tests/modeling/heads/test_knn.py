"""Nearest neighbours against a slow oracle, and their memory in one process and in two."""

import math

import pytest
import torch
import torch.nn.functional as F
from classification_helpers import build, colored_images, evaluate_knn, share
from data_helpers import logged
from distributed_helpers import in_processes

from pixpro_d2.evaluation.classification import ClassificationEvaluator
from pixpro_d2.modeling.heads import knn as knn_module
from pixpro_d2.modeling.heads.knn import gather_rows, knn_votes
from pixpro_d2.utils.errors import UsageError


def votes_slow(similarities, labels, k, num_classes, temperature):
    """Wu et al. 2018, section 3.4: each of the k nearest neighbours votes for its class with exp(s / tau)."""
    rows = []
    for row in similarities.tolist():
        order = sorted(range(len(row)), key=lambda i: -row[i])[:k]
        votes = [0.0] * num_classes
        for i in order:
            votes[labels[i]] += math.exp(row[i] / temperature)
        rows.append([x / sum(votes) for x in votes])
    return torch.tensor(rows)


@pytest.mark.parametrize("k", [1, 5, 30, 200])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_equal_the_slow_sum(k, temperature):
    generator = torch.Generator().manual_seed(k)
    similarities = 2 * torch.rand(6, 30, generator=generator) - 1
    labels = torch.randint(0, 7, (30,), generator=generator)
    votes = knn_votes(similarities, labels, k, 7, temperature)
    torch.testing.assert_close(votes, votes_slow(similarities, labels.tolist(), k, 7, temperature))


def test_two_weak_neighbours_lose_against_a_strong_one_at_low_temperature_only():
    similarities, labels = torch.tensor([[0.9, 0.8, 0.8, -1.0]]), torch.tensor([0, 1, 1, 2])
    assert knn_votes(similarities, labels, 3, 3, 0.07).argmax() == 0  # e^(0.1 / 0.07) = 4.2 > 2
    assert knn_votes(similarities, labels, 3, 3, 1.0).argmax() == 1  # e^0.1 = 1.1 < 2
    assert knn_votes(similarities, labels, 3, 3, 1.0)[0, 2] == 0


def test_a_tiny_temperature_stays_finite():
    votes = knn_votes(torch.tensor([[1.0, 0.5]]), torch.tensor([1, 0]), 2, 2, 1e-4)
    assert votes.tolist() == [[0, 1]]


def test_half_precision_similarities_give_float32_votes():
    votes = knn_votes(torch.tensor([[1.0, 0.5]]).half(), torch.tensor([1, 0]), 2, 2, 0.07)
    assert votes.dtype == torch.float32
    torch.testing.assert_close(votes[0, 0] / votes[0, 1], torch.tensor(math.exp(-0.5 / 0.07)))


def test_scores_come_from_unit_pooled_features(monkeypatch):
    monkeypatch.setattr(knn_module, "QUERIES_AT_ONCE", 2)  # three images make an incomplete last part
    model, bank, queries = build("KNNClassifier").eval(), colored_images(10), colored_images(3, seed=1)
    model.fit(share(bank, batch_size=3))

    def unit(samples):
        images = torch.stack([(x["image"].float() - model.pixel_mean) / model.pixel_std for x in samples])
        return F.normalize(model.backbone(images)["res5"].mean(dim=(2, 3)), dim=1)

    with torch.no_grad():
        similarities = unit(queries) @ unit(bank).T
        outputs = model(queries)
    labels = [x["category_id"] for x in bank]
    assert [list(x["scores"]) for x in outputs] == [["knn1", "knn3"]] * 3
    for k in (1, 3):
        scores = torch.stack([x["scores"][f"knn{k}"] for x in outputs])
        torch.testing.assert_close(scores, votes_slow(similarities, labels, k, 4, 0.07), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_fit_runs_in_eval_mode_and_leaves_the_mode_and_the_checkpoint(training):
    model = build("KNNClassifier").train(training)
    names, mean = list(model.state_dict()), model.backbone.stem.conv1.norm.running_mean.clone()
    model.fit(share(colored_images(4), batch_size=2))
    assert model.training == training
    assert list(model.state_dict()) == names
    assert torch.equal(model.backbone.stem.conv1.norm.running_mean, mean)
    assert model.labels.tolist() == [0, 1, 2, 3] and not model.bank.requires_grad
    torch.testing.assert_close(model.bank.norm(dim=1), torch.ones(4))


def test_separable_images_score_100_per_cent():
    model = build("KNNClassifier", MODEL__CLASSIFIER__NEIGHBORS=[3]).eval()
    model.fit(share(colored_images(16), batch_size=8))
    evaluator, queries = ClassificationEvaluator(), colored_images(24, seed=1)
    evaluator.process(queries, model(queries))
    assert evaluator.evaluate()["classification"] == {"knn3_top1": 100, "knn3_top5": 100}


def test_more_neighbours_than_images_is_said():
    model = build("KNNClassifier", MODEL__CLASSIFIER__NEIGHBORS=[2, 20]).eval()
    with logged("pixpro_d2.modeling.heads.knn") as messages:
        model.fit(share(colored_images(4)))
    assert any("All 4 training images vote" in message for message in messages)
    scores = model(colored_images(1))[0]["scores"]
    assert scores["knn20"].min() > 0  # all four images, one of each class


def test_it_is_not_trained():
    with pytest.raises(UsageError, match="KNNClassifier is not trained: add --eval-only"):
        build("KNNClassifier").train()(colored_images(1))


def test_no_scores_before_the_memory_is_filled():
    with pytest.raises(RuntimeError, match="fit"):
        build("KNNClassifier").eval()(colored_images(1))


def test_gathering_in_one_process_is_the_identity():
    rows = torch.arange(6).view(3, 2)
    assert gather_rows(rows) is rows


@pytest.mark.slow
def test_two_processes_share_the_memory_and_the_evaluation(tmp_path):
    bank, queries = colored_images(13), colored_images(5, seed=1)
    for x in queries[:2]:
        x["category_id"] = 3  # two wrong labels: the figure depends on which images are counted, and how often
    first, second = in_processes(tmp_path, evaluate_knn, bank, queries)
    alone = build("KNNClassifier").eval()
    alone.fit(share(bank, batch_size=2))
    for part in (first, second):
        assert part["labels"].tolist() == [0, 1, 2, 3] * 3 + [0]
        torch.testing.assert_close(part["bank"], alone.bank)
    assert first["results"]["classification"] == pytest.approx(
        {"knn1_top1": 60, "knn1_top5": 100, "knn3_top1": 60, "knn3_top5": 100}
    )
    assert second["results"] == {}
