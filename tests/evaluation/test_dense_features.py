"""The measures of dense features, on models and images whose answer is known."""

import math

import numpy as np
import pytest
import torch
from data_helpers import logged, stop_clock, write_images
from pretext_helpers import build, config

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.collate import collate
from pixpro_d2.data.pretrain.samples import build_view_mapper
from pixpro_d2.evaluation import dense_features, pretext
from pixpro_d2.evaluation.dense_features import BATCH, batches, measure, split_halves
from pixpro_d2.evaluation.pretext import held_out_images
from pixpro_d2.modeling.pretrain.monitors import effective_rank, uniformity
from pixpro_d2.utils import retry
from pixpro_d2.utils.modules import eval_mode


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "images"
    write_images(folder, 5, size=(70, 90))
    return folder


def test_values_are_those_of_all_images_at_once(images, monkeypatch):
    cfg = config(images, "INPUT.PIXPRO.MIN_SCALE", 0.05)  # small crops, of which some do not meet
    model, mapper, dicts = build(cfg), build_view_mapper(cfg), held_out_images(cfg)
    batch = collate([mapper(image, np.random.default_rng((0, i))) for i, image in enumerate(dicts)])
    with torch.no_grad(), eval_mode(model):
        _, comparisons = model.compare(*model.views_and_geometry(batch))
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


def test_a_lost_mount_is_waited_for_once(images, tmp_path, monkeypatch):
    write_images(tmp_path / "mount", 5, size=(70, 90))
    cfg = config(tmp_path / "mount")
    mapper, dicts, pauses = build_view_mapper(cfg), held_out_images(cfg), stop_clock(monkeypatch)
    before = list(batches(mapper, dicts, 0))
    (tmp_path / "mount").rename(tmp_path / "away")
    with pytest.raises(UnreadableImage):
        list(batches(mapper, dicts, 0, retry_seconds=1.25))
    assert pauses == [0.5, 0.75]

    def back(seconds):
        (tmp_path / "away").rename(tmp_path / "mount")

    monkeypatch.setattr(retry.time, "sleep", back)
    after = list(batches(mapper, dicts, 0, retry_seconds=1.25))
    torch.testing.assert_close([s["views"] for s in after[0].values()], [s["views"] for s in before[0].values()])


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [
        ((5, 5), 1, [12]),
        ((4, 4), 2, [9, 11]),  # row 2, columns 1 and 3
        ((5, 5), 9, [0, 2, 4, 10, 12, 14, 20, 22, 24]),
        ((5, 5), 13, [0, 1, 3, 4, 10, 11, 13, 14, 20, 21, 23, 24]),  # three rows of four
        ((4, 4), 99, list(range(16))),
        ((6, 2), 12, list(range(12))),
        ((2, 6), 12, list(range(12))),
    ],
)
def test_some_pixels_are_the_centres_of_equal_tiles(size, count, expected):
    """One pixel of each image must not be a corner."""
    features = torch.randn(3, 2, *size)
    vectors, index = dense_features._some_pixels(features, count)
    assert index.tolist() == expected
    assert torch.equal(vectors[1, -1], features[1, :, expected[-1] // size[1], expected[-1] % size[1]])


def test_height_is_read_where_features_tell_it():
    rows = torch.linspace(0, 1, 6)[:, None].expand(6, 6)
    random = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    telling = torch.cat([random, rows.expand(40, 1, 6, 6)], dim=1)
    found = []
    for features in (random, telling):
        heights = dense_features._heights(features)
        found.append(dense_features._r2(heights, split_halves([{"file_name": "same.png"}] * 40)))
    assert abs(found[0]) < 0.02 and 0.98 < found[1] < 1  # the ridge shrinks a little
    assert math.isnan(dense_features._r2(heights[:1], [0]))


def test_images_and_videos_alternate_between_the_halves():
    assert split_halves([{"file_name": name} for name in "aabc"]) == [0, 1, 0, 1]
    video = {name: {"file_name": name, "video": "same", "num_frames": 9} for name in ("x/same", "y/same", "z/same")}
    x, y, z = video.values()
    assert split_halves([x, y, z, x, y, z]) == [0, 1, 0, 0, 1, 0]
    assert split_halves([x, x, y, y, y, z]) == [0, 0, 1, 1, 1, 0]
    assert split_halves([x, x, x]) == [0, 0, 0] and split_halves([]) == []


def test_runs_of_one_video_are_on_the_same_side_of_the_regression():
    """Four videos, each with a channel of its own that tells the height: the fit knows no channel of the test."""
    rows = torch.linspace(0, 1, 6)[:, None].expand(6, 6)
    runs = [number for number in range(4) for _ in range(5)]
    features = torch.zeros(20, 4, 6, 6)
    for run, number in zip(features, runs):
        run[number] = rows
    heights = dense_features._heights(features)
    videos = [{"file_name": f"videos/{number}", "num_frames": 9} for number in runs]
    assert dense_features._r2(heights, [i % 2 for i in range(20)]) > 0.9  # by position, it knows every channel
    assert dense_features._r2(heights, split_halves(videos)) < 0


def test_held_out_runs_of_two_still_videos(tmp_path, monkeypatch):
    """With three runs of each video; one video alone has no test of the regression."""
    monkeypatch.setattr(pretext, "COUNT", 6)
    for name in ("one/a", "two/a", "two/b"):
        write_images(tmp_path / name, 2, size=(70, 90))
    for folder, checked in (("one", math.isnan), ("two", math.isfinite)):
        ensure_registered([f"video:{tmp_path / folder}"])
        cfg = configs.tiny(
            "DATASETS.TEST",
            (f"video:{tmp_path / folder}",),
            "INPUT.PIXPRO.N_FRAMES",
            1,
            "MODEL.PIXPRO.IN_FEATURES",
            ["p3"],
        )
        runs = held_out_images(cfg)
        assert split_halves(runs) == {"one": [0] * 6, "two": [0, 0, 0, 1, 1, 1]}[folder]
        assert all(
            checked(values["height_r2"]) for values in measure(build(cfg), build_view_mapper(cfg), runs).values()
        )


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1, 3 * BATCH + 1])
def test_batches_are_of_nearly_equal_sizes(count):
    """A last batch of one image would have no deviation at a level of one pixel."""
    images = [{"file_name": str(i)} for i in range(count)]
    found = [list(samples) for samples in batches(lambda image, rng: image, images, 0)]
    assert sum(found, []) == list(range(count))
    assert max(map(len, found)) <= BATCH and max(map(len, found)) - min(map(len, found)) <= 1
