"""Fixed views of images, and what a model makes of them."""

import random

import numpy as np
import pytest
import torch
from data_helpers import write_images
from detectron2.modeling import build_model

import configs
from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.utils.modules import eval_mode
from pixpro_d2.visualization.views import ViewSource, compare_views


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    paths = write_images(tmp_path_factory.mktemp("views"), 3, size=(90, 120))
    return [{"file_name": str(path)} for path in paths]


def share_of_smaller(boxes):
    """Area that two signed boxes share as a part of the smaller one's, on a raster of pixels."""
    masks = np.zeros((2, 200, 200), dtype=bool)
    for mask, box in zip(masks, boxes.astype(int)):
        mask[box[1] : box[3], min(box[0], box[2]) : max(box[0], box[2])] = True
    return (masks[0] & masks[1]).sum() / masks.sum(axis=(1, 2)).min()


def test_the_same_seed_gives_the_same_views(images):
    source = ViewSource(configs.tiny())
    first, again, other = (source.subject(images[0], seed) for seed in ((1, 0), (1, 0), (1, 1)))
    for name in ("sample", "plain"):
        np.testing.assert_array_equal(getattr(first, name)["views"], getattr(again, name)["views"])
        assert not np.array_equal(getattr(first, name)["boxes"], getattr(other, name)["boxes"])


def test_plain_views_are_the_same_crops_in_their_own_colours(images):
    source = ViewSource(configs.tiny("INPUT.AUG_DEVICE", "model", "INPUT.FORMAT", "BGR"))
    assert source.mapper.aug_device == "cpu"  # finished views, wherever training finishes them
    subject = source.subject(images[1], (0,))
    np.testing.assert_array_equal(subject.sample["boxes"], subject.plain["boxes"])
    assert not np.array_equal(subject.sample["views"], subject.plain["views"])
    box = subject.plain["boxes"][0]
    (frame,) = source.frames(images[1], subject.plain)
    corners = min(box[0], box[2]), box[1], max(box[0], box[2]), box[3]
    crop = np.asarray(frame.image.crop(corners)).mean(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(source.images(subject.plain)[0]).mean(axis=(0, 1)), crop, atol=3)
    assert frame.name == "001.png"


def test_views_overlap(images):
    source = ViewSource(configs.tiny("INPUT.PIXPRO.MIN_SCALE", 0.08))
    as_trained = [source.mapper(images[0], np.random.default_rng((seed, 0)))["boxes"] for seed in range(30)]
    fixed = [source.subject(images[0], (seed,)).sample["boxes"] for seed in range(30)]
    assert min(map(share_of_smaller, as_trained)) < 0.2  # otherwise nothing is tested
    assert min(map(share_of_smaller, fixed)) > 0.2


def test_grey_views_are_shown_grey(images):
    source = ViewSource(configs.tiny("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [110], "MODEL.PIXEL_STD", [58]))
    first, _ = source.images(source.subject(images[0], (0,)).sample)
    assert first.mode == "RGB" and np.ptp(np.asarray(first), axis=2).max() == 0


def test_unreadable_images_are_named(tmp_path):
    (tmp_path / "bad.jpg").write_text("not an image")
    with pytest.raises(UnreadableImage, match="bad.jpg"):
        ViewSource(configs.tiny()).subject({"file_name": str(tmp_path / "bad.jpg")}, (0,))


@pytest.mark.parametrize("method", ["pixpro", "densecl"])
def test_comparing_leaves_no_trace(images, method):
    cfg = configs.tiny("MODEL.PIXPRO.METHOD", method, "MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 16)
    model = build_model(cfg).train()
    model.target_backbone.eval()
    source = ViewSource(cfg, correspondence=model.correspondence)
    assert source.correspondence is model.correspondence
    samples = [source.subject(image, (0,)).sample for image in images]
    state = {name: x.clone() for name, x in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    comparisons = compare_views(model, samples)
    assert list(comparisons) == ["p3", "p4", "p5", "p6"]
    assert not any(view.queries.requires_grad for x in comparisons.values() for view in x.views)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generators[0]) and random.getstate() == generators[2]
    assert np.array_equal(np.random.get_state()[1], generators[1])


def test_features_are_those_of_inference(images):
    cfg = configs.tiny()
    model = build_model(cfg).train()
    source = ViewSource(cfg)
    sample = source.subject(images[0], (0,)).sample
    found = compare_views(model, [sample])["p3"].views[1].features
    with eval_mode(model):
        (expected,) = model([{"image": torch.from_numpy(sample["views"][1])}])
    torch.testing.assert_close(found[0], expected["p3"])
