"""The measures of dense features, on models and images whose answer is known."""

import math

import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from pretext_helpers import build, config

from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.collate import collate_videos
from pixpro_d2.data.pretrain.samples import build_view_mapper
from pixpro_d2.evaluation import dense_features
from pixpro_d2.evaluation.dense_features import measure
from pixpro_d2.evaluation.pretext import held_out_images
from pixpro_d2.modeling.pretrain.monitors import effective_rank, uniformity
from pixpro_d2.utils.modules import eval_mode


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "images"
    write_images(folder, 5, size=(70, 90))
    return folder


def test_values_are_those_of_all_images_at_once(images, monkeypatch):
    cfg = config(images, "INPUT.PIXPRO.MIN_SCALE", 0.05)  # small crops, of which some do not meet
    model, mapper, dicts = build(cfg), build_view_mapper(cfg), held_out_images(cfg)
    batch = collate_videos([mapper(image, np.random.default_rng((0, i))) for i, image in enumerate(dicts)])
    with torch.no_grad(), eval_mode(model):
        _, comparisons = model.compare(*model.prepare(batch))
    monkeypatch.setattr(dense_features, "BATCH", 2)
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


def test_projections_are_those_of_the_online_branch(images):
    cfg = config(images)
    model, mapper, dicts = build(cfg), build_view_mapper(cfg), held_out_images(cfg)
    before = measure(model, mapper, dicts)
    for head in model.target_projector.heads.values():
        torch.nn.init.zeros_(head[-1].weight)
    after = measure(model, mapper, dicts)
    assert after["p3"].pop("loss") != before["p3"].pop("loss")
    assert after["p3"] == before["p3"] and after["p3"]["feature_std_projected"] > 0.1 * 32**-0.5

    for head in model.projector.heads.values():
        torch.nn.init.zeros_(head[-1].weight)
    collapsed = measure(model, mapper, dicts)["p3"]
    assert collapsed["feature_std_projected"] == pytest.approx(0, abs=1e-6)
    assert collapsed["match_accuracy_projected"] < before["p3"]["match_accuracy_projected"] / 2
    assert collapsed["match_accuracy"] == before["p3"]["match_accuracy"]


def test_unreadable_images_are_left_out(images, tmp_path):
    write_images(tmp_path / "mixed", 5, size=(70, 90))
    (tmp_path / "mixed" / "002.png").write_text("not an image")
    cfg = config(tmp_path / "mixed")
    model, mapper = build(cfg), build_view_mapper(cfg)
    with logged("pixpro_d2.evaluation.dense_features") as messages:
        found = measure(model, mapper, held_out_images(cfg))
    assert len(messages) == 1 and "002.png" in messages[0]
    assert all(math.isfinite(values["match_accuracy"]) for values in found.values())
    with pytest.raises(UnreadableImage, match="002.png"):
        measure(model, mapper, held_out_images(cfg)[2:3])


def test_height_is_read_where_features_tell_it():
    rows = torch.linspace(0, 1, 6)[:, None].expand(6, 6)
    random = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    telling = torch.cat([random, rows.expand(40, 1, 6, 6)], dim=1)
    found = []
    for features in (random, telling):
        halves = ([], [])
        dense_features._add_heights(halves, features[:15], 0)
        dense_features._add_heights(halves, features[15:], 15)
        assert [len(half) for half in halves] == [20, 20]
        found.append(dense_features._height_r2(halves))
    assert abs(found[0]) < 0.02 and 0.98 < found[1] < 1  # the ridge shrinks a little
    assert math.isnan(dense_features._height_r2(([halves[0][0]], [])))
