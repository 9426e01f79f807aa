"""The evaluation without labels, on models and images whose answer is known, in one process and in two."""

import math

import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from detectron2.modeling import build_model
from distributed_helpers import in_processes

import configs
from pixpro_d2.data.catalog import ensure_registered
from pixpro_d2.data.reader import UnreadableImage
from pixpro_d2.data.samples import build_view_mapper
from pixpro_d2.data.video_collate import collate_videos
from pixpro_d2.evaluation import pretext
from pixpro_d2.evaluation.pretext import ema_distance, evaluate_pretext, held_out_images, measure
from pixpro_d2.learner.probe import eval_mode
from pixpro_d2.modeling.monitors import effective_rank, uniformity

LEVELS = ["p3", "p4"]


def config(folder, *opts):
    """Config that is evaluated on the images of ``folder``."""
    name = f"images:{folder}"
    ensure_registered([name])
    return configs.tiny("DATASETS.TEST", (name,), "MODEL.PIXPRO.IN_FEATURES", LEVELS, *opts)


def build(cfg):
    torch.manual_seed(0)
    return build_model(cfg).train()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretext") / "images"
    write_images(folder, 5, size=(70, 90))
    return folder


def test_what_is_recorded(images):
    cfg = config(images)
    model = build(cfg)
    results = evaluate_pretext(cfg, model)
    assert set(results) == {"match_accuracy", "chance", "effective_rank", "uniformity", "test", "ema_distance"}
    for name, (low, high) in {"match_accuracy": (0, 1), "chance": (0, 0.5), "effective_rank": (1, 32),
                              "uniformity": (-8, 0)}.items():  # fmt: skip
        assert list(results[name]) == LEVELS and all(low <= value <= high for value in results[name].values()), name
    assert set(results["test"]) == {"feature_std", "images_without_pair"}
    assert results["ema_distance"] == 0  # the target starts as a copy
    assert evaluate_pretext(cfg, model) == results


def test_nothing_is_evaluated_without_test_data():
    cfg = configs.tiny("DATASETS.TEST", ())
    assert evaluate_pretext(cfg, None) == {}


def test_values_are_those_of_all_images_at_once(images, monkeypatch):
    cfg = config(images, "INPUT.PIXPRO.MIN_SCALE", 0.05)  # small crops, of which some do not meet
    model, mapper, dicts = build(cfg), build_view_mapper(cfg), held_out_images(cfg)
    batch = collate_videos([mapper(image, np.random.default_rng((0, i))) for i, image in enumerate(dicts)])
    with torch.no_grad(), eval_mode(model):
        _, comparisons = model.compare(*model.prepare(batch))
    monkeypatch.setattr(pretext, "BATCH", 2)
    found = measure(model, mapper, dicts)
    for level, x in comparisons.items():
        pixels = torch.nn.functional.normalize(x.views[0].features, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
        values = found[level]
        assert values["effective_rank"] == pytest.approx(effective_rank(pixels).item(), rel=1e-3)
        assert values["uniformity"] == pytest.approx(uniformity(pixels).item(), rel=1e-3)
        assert values["images_without_pair"] == pytest.approx((~x.positives.any(2).any(1)).float().mean().item())
        assert values["positive_pairs"] == pytest.approx(x.positives.sum().item() / 5)
        shares = [row.float().mean().item() for image in x.positives for row in image if row.any()]
        assert values["chance"] == pytest.approx(sum(shares) / len(shares))
    assert 0 < found["p3"]["images_without_pair"] < 1


def test_a_collapsed_model_is_found(images):
    """Features without any input: all pixels are the bias."""
    cfg = config(images)
    model = build(cfg)
    for level in ("3", "4"):
        output = model.backbone.get_submodule(f"fpn_output{level}")
        torch.nn.init.zeros_(output.weight)
        norm = output.norm
        torch.nn.init.constant_(norm.bias, 0.3)
        torch.nn.init.zeros_(norm.weight)
    values = measure(model, build_view_mapper(cfg), held_out_images(cfg))["p3"]
    assert values["effective_rank"] == 1 and values["uniformity"] == pytest.approx(0, abs=1e-5)
    assert values["feature_std"] == pytest.approx(0, abs=1e-6)


def test_distance_of_the_target(images):
    model = build(config(images))
    with torch.no_grad():
        for _, target in model.momentum_pairs():
            for parameter in target.parameters():
                parameter.mul_(1.5)
    assert ema_distance(model) == pytest.approx(0.5)


def test_images_are_spread_over_the_data_set(images, monkeypatch):
    monkeypatch.setattr(pretext, "COUNT", 2)
    assert [image["file_name"][-7:] for image in held_out_images(config(images))] == ["000.png", "002.png"]


def test_unreadable_images_are_left_out(images, tmp_path):
    write_images(tmp_path / "mixed", 5, size=(70, 90))
    (tmp_path / "mixed" / "002.png").write_text("not an image")
    cfg = config(tmp_path / "mixed")
    model, mapper = build(cfg), build_view_mapper(cfg)
    with logged("pixpro_d2.evaluation.pretext") as messages:
        found = measure(model, mapper, held_out_images(cfg))
    assert len(messages) == 1 and "002.png" in messages[0]
    assert all(math.isfinite(values["match_accuracy"]) for values in found.values())
    with pytest.raises(UnreadableImage, match="002.png"):
        measure(model, mapper, held_out_images(cfg)[2:3])


def evaluate(folder, *opts):
    cfg = config(folder, *opts)
    return evaluate_pretext(cfg, build(cfg))


INSTANCE = ["MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.PIXPRO.INSTANCE.LOSS", "infonce"]


@pytest.mark.slow
def test_two_processes_agree(images, tmp_path):
    """With the instance loss that gathers keys of all processes."""
    first, second = in_processes(tmp_path, evaluate, images, *INSTANCE)
    assert first == second
    for name, values in evaluate(images, *INSTANCE).items():
        if name not in ("test", "ema_distance"):
            assert first[name] == pytest.approx(values, rel=1e-4), name
