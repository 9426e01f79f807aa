"""Attention of the pixel propagation module."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import capture, places, words
from PIL import Image

from pixpro_d2.modeling.pretrain.ppm import propagate
from pixpro_d2.visualization.attention import PLACES, attention_maps, draw_attention, pixels_at
from pixpro_d2.visualization.rows import SIDE


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0])
def test_maps_are_the_rows_of_the_similarity(gamma):
    features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    maps = attention_maps(features, [0, 7, 11], gamma)
    assert maps.shape == (3, 3, 4)
    for row, pixel in zip(maps, (0, 7, 11)):
        for j in range(12):
            cosine = F.cosine_similarity(features.flatten(1)[:, pixel], features.flatten(1)[:, j], dim=0)
            assert row.flatten()[j].item() == pytest.approx(max(cosine.item(), 0) ** gamma, abs=1e-5)


def test_maps_weigh_what_the_module_sums():
    generator = torch.Generator().manual_seed(1)
    features, values = (torch.randn(channels, 4, 4, generator=generator) for channels in (6, 3))
    maps = attention_maps(features, list(range(16)), 2.0).flatten(1)
    expected = propagate(features[None], values[None], 2.0)[0].flatten(1)
    torch.testing.assert_close(F.normalize(values, dim=0).flatten(1) @ maps.T, expected)


def test_pixels_at_places():
    # (x, y) = (0.5, 0.5), (0.2, 0.25), (0.8, 0.3), (0.35, 0.8): columns 2, 0, 3, 1 and rows 2, 1, 1, 3 of four.
    assert pixels_at(PLACES, (4, 4)) == [10, 4, 7, 13]
    assert pixels_at(PLACES, (2, 4)) == [6, 0, 3, 5]
    assert pixels_at(PLACES, (1, 1)) == [0]


def test_a_row_for_each_level_and_a_picture_for_each_pixel(monkeypatch):
    found = capture(monkeypatch)
    maps = {"p3": ([0, 5], np.full((2, 4, 4), 0.25)), "p4": ([1], np.ones((1, 2, 2)))}
    draw_attention(Image.new("RGB", (64, 64)), maps, "Some weights")
    panels, bar, text = found
    titles = ["p3: 4 x 4 pixels", "pixel 1, mean 0.25", "pixel 2, mean 0.25", "p4: 2 x 2 pixels", "pixel 1, mean 1.00"]
    assert [text.get_text() for text in panels.texts] == titles
    tops = [round(box[1]) for text, box in places(panels) if text in titles]
    assert len(set(tops[:3])) == 1 and len(set(tops[3:])) == 1 and tops[3] > tops[0] + SIDE
    said = " ".join(words(text))
    assert said.startswith("Some weights.") and "p3 0.25, p4 1.00" in said
    assert words(bar) == ["weight 0", "1"]


def test_where_the_weight_is_high_the_picture_is_bright():
    weights = np.zeros((1, 4, 4))
    weights[0, 1, 2] = 1
    picture = np.asarray(draw_attention(Image.new("RGB", (64, 64), (90, 90, 90)), {"p3": ([15], weights)}, ""))
    tile = picture[42 : 42 + 216, 20 + 216 + 20 : 20 + 216 + 20 + 216].astype(int).sum(axis=2)
    bins = tile.reshape(4, 54, 4, 54).mean(axis=(1, 3))
    bins[3, 3] = 0  # where the mark is
    assert bins.argmax() == 6 and bins[1, 2] > 2 * bins[3, 0]
