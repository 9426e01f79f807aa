"""Sheets of small pictures."""

import numpy as np
import pytest
from PIL import Image

from pixpro_d2.visualization import sheet
from pixpro_d2.visualization.canvas import LINE, MARGIN, Canvas
from pixpro_d2.visualization.sheet import (
    SIDE,
    Tile,
    bin_box,
    contact_sheet,
    draw_sheet,
    lay_out_rows,
    mark,
    outline,
    tile_canvas,
)


def picture(colour, side=SIDE):
    return Image.new("RGB", (side, side), colour)


def test_pictures_stand_where_they_are_laid_out():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    rows = [[(picture(colours[0]), "a"), (picture(colours[1]), "b")], [(picture(colours[2]), "c", (9, 9, 9))]]
    tiles = lay_out_rows(rows)
    assert [tile.title for tile in tiles] == ["a", "b", "c"] and tiles[2].colour == (9, 9, 9)
    result = draw_sheet(tiles, ["some text"])
    for tile, colour in zip(tiles, colours):
        assert result.getpixel((round(tile.x) + SIDE - 1, round(tile.y) + LINE + SIDE - 1)) == colour
    assert result.width == 1200
    places = [(tile.x, tile.y, tile.x + SIDE, tile.y + LINE + SIDE) for tile in tiles]
    assert places[1][0] >= places[0][2] + MARGIN and places[2][1] >= places[0][3]


def test_five_pictures_fit_into_a_row():
    tiles = lay_out_rows([[(picture((0, 0, 0)), "")] * 5])
    assert tiles[-1].x + SIDE == 1200 - MARGIN


def test_text_takes_the_lines_that_it_needs(monkeypatch):
    tiles = [Tile(MARGIN, MARGIN, picture((0, 0, 0)), "title " * 30)]
    written = []
    monkeypatch.setattr(sheet.Canvas, "text", lambda canvas, x, y, text, *rest: written.append((y, text)))
    heights = [draw_sheet(tiles, paragraphs).height for paragraphs in ([], ["one"], ["one", "two " * 200])]
    assert written[0][1].endswith("...")  # a title is no wider than its picture
    assert heights[1] == heights[0] + LINE and heights[2] >= heights[1] + 4 * LINE
    ys = [y for y, text in written if text.startswith(("one", "two"))]
    assert ys[0] >= MARGIN + LINE + SIDE and max(ys) + LINE <= heights[2]
    assert draw_sheet(tiles, ["one"], bar=("low", "high")).height == heights[1] + LINE


def test_a_title_may_have_more_room_than_its_picture(monkeypatch):
    written = []
    monkeypatch.setattr(sheet.Canvas, "text", lambda canvas, x, y, text, *rest: written.append(text))
    title = "forty letters of a title of some picture"
    draw_sheet([Tile(0, 0, picture((0, 0, 0)), title), Tile(0, 300, picture((0, 0, 0)), title, room=400)], [])
    assert written[0].endswith("...") and written[1] == title


def test_contact_sheet_stacks_rows():
    rows = [picture((200, 0, 0), 40), picture((0, 200, 0), 30)]
    result = contact_sheet(rows)
    assert result.size == (40, 70)
    assert np.array_equal(np.asarray(result)[40:, :30], np.asarray(rows[1]))


@pytest.mark.parametrize("size", [(50, 100), (200, 100)])
def test_a_picture_keeps_its_shape_on_its_canvas(size):
    canvas = tile_canvas(Image.new("RGB", size, (0, 200, 0)), 300, 300)
    assert max(canvas.size) == 300 and canvas.size[0] * size[1] == canvas.size[1] * size[0]
    assert canvas.finish().getcolors() == [(canvas.size[0] * canvas.size[1], (0, 200, 0))]


def test_boxes_of_bins():
    assert bin_box(0, (2, 4), 80) == (0, 0, 20, 40)
    assert bin_box(6, (2, 4), 80) == (40, 40, 60, 80)


@pytest.mark.parametrize(
    "box, centre", [((40, 60, 60, 80), (50, 70)), ((0, 0, 2, 2), (11, 11)), ((98, 98, 100, 100), (89, 89))]
)
def test_marks_stay_inside(box, centre):
    canvas = Canvas(100, 100)
    mark(canvas, box, 1, (255, 0, 0))
    red = np.asarray(canvas.finish())[..., 0] > 150
    rows, columns = np.nonzero(red)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx(centre[0], abs=1)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx(centre[1], abs=1)


def test_outline_surrounds_the_union():
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1:3] = True
    canvas = tile_canvas(picture((0, 0, 0), 80), 80, 80)
    outline(canvas, mask, (255, 255, 255), 80)
    white = np.asarray(canvas.finish())[..., 0] > 128
    assert white[19:22, 30].any() and white[38:42, 50].any() and white[30, 18:22].any() and white[30, 58:62].any()
    assert not white[25:35, 36:44].any()  # no line between the two bins
    assert not white[:16].any() and not white[44:].any()
