"""Batches of test images of one size."""

import torch
from data_helpers import make_cfg
from detectron2.modeling import build_model

from configs import tiny
from pixpro_d2.data.downstream.same_size import group_by_size, resized_sizes


def test_by_hand():
    a, b = ((4, 6), 24), ((6, 4), 24)
    assert group_by_size(range(6), [a, b, a, a, b, a], max_images=3) == [[0, 2, 3], [1, 4], [5]]
    assert group_by_size([5, 2, 1], [a, b, a, a, b, a], max_images=8) == [[5, 2], [1]]
    assert group_by_size([], [], max_images=8) == []


def test_pixels_of_a_batch():
    small, large = ((4, 6), 24), ((4, 6), 50)  # the same size after resizing
    batches = group_by_size(range(6), [small, small, small, large, large, small], max_images=8, max_pixels=48)
    assert batches == [[0, 1], [2], [3], [4], [5]]


def test_unknown_sizes():
    assert resized_sizes(make_cfg(), [{"height": 4, "width": 6}, {"height": 4}]) is None
    assert group_by_size([3, 1], None, max_images=8) == [[3], [1]]


def test_sizes_after_resizing():
    images = [{"height": height, "width": width} for height, width in ((20, 40), (40, 20), (10, 100), (2000, 1000))]
    cfg = make_cfg(INPUT__MIN_SIZE_TEST=10, INPUT__MAX_SIZE_TEST=40)
    expected = [((10, 20), 800), ((20, 10), 800), ((4, 40), 1000), ((20, 10), 2_000_000)]
    assert resized_sizes(cfg, images) == expected
    cfg = make_cfg(INPUT__MIN_SIZE_TEST=0)
    assert resized_sizes(cfg, images[:1]) == [((20, 40), 800)]


def test_a_batch_predicts_like_its_images_alone():
    """Images of one size in a batch get no padding, so each has the predictions that it has alone."""
    config = "voc/faster_rcnn_R_18_FPN_small.yaml"
    torch.manual_seed(0)
    model = build_model(tiny("MODEL.ROI_HEADS.NUM_CLASSES", 2, config=config)).eval()
    inputs = [{"image": torch.randint(256, (3, 50, 70), dtype=torch.uint8), "height": 100, "width": 140} for _ in "abc"]
    with torch.no_grad():
        together = [output["instances"] for output in model(inputs)]
        alone = [model([sample])[0]["instances"] for sample in inputs]
    for one, other in zip(together, alone, strict=True):
        assert len(one) > 0
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
