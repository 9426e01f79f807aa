"""Figures in pixels, and the blocks that they are joined from."""

import gc
import itertools
import warnings
import weakref

import matplotlib
import numpy as np
import pytest
from drawn import capture, near, places, rgb, words
from matplotlib.legend import Legend
from PIL import Image

from pixpro_d2.visualization import figures
from pixpro_d2.visualization.figures import (
    BACKGROUND,
    BAR,
    LINE,
    MARGIN,
    OPACITY,
    add_image,
    add_panel,
    bar_block,
    contact_sheet,
    cover,
    cover_map,
    fit,
    legend_block,
    new_figure,
    palette,
    shorten,
    text_block,
    text_width,
    to_image,
    wrap,
    write,
)


def plain_image(colour, size=(40, 40)):
    return Image.new("RGB", size, colour)


@pytest.mark.parametrize("size", [(1200, 516), (1, 1), (333, 127), (820, 7)])
def test_a_figure_has_its_size_and_ground(size):
    picture = to_image(new_figure(*size))
    assert picture.size == size and picture.mode == "RGB"
    assert picture.getcolors() == [(size[0] * size[1], tuple(rgb(BACKGROUND).astype(int)))]


def test_figures_are_freed():
    figure = new_figure(50, 50)
    add_image(figure, plain_image("red"), (0, 0), (20, 20), "title")
    to_image(figure)
    alive = weakref.ref(figure)
    del figure
    gc.collect()
    assert alive() is None


def test_shortened_text_fits():
    assert shorten("short", 100) == "short"
    said = shorten("a title that is far too long for its panel", 170, tail=": 94.2% right")
    assert said.startswith("a ti") and said.endswith("...: 94.2% right") and text_width(said) <= 170
    assert shorten("model", 150, tail=": 94.2% right") == "model: 94.2% right"
    cut = shorten("a title that is far too long for its panel", 100)
    assert cut.startswith("a title") and cut.endswith("...") and text_width(cut) <= 100


@pytest.mark.parametrize("name", ["$a$.jpg", "a_{b", "$", "cut off \udce4.jpg", "x\\frac$1$"])
def test_names_of_files_are_drawn_letter_by_letter(name):
    figure = new_figure(300, 40)
    write(figure, 10, 5, name)
    assert near(to_image(figure), "#e8e8e8", 60).sum() > 3
    ((_, box),) = places(figure)
    assert box[2] - box[0] == pytest.approx(text_width(name), abs=3)  # a formula is narrower than its source
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert near(legend_block([name], ["red"], 300), "#e8e8e8", 60).any()
        assert text_block([name], 300).width == 300


def test_colours_differ():
    for count, least in ((12, 60), (40, 8)):
        colours = np.array([rgb(colour) for colour in palette(count)])
        assert len(colours) == count
        distance = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1000 * np.eye(count)
        assert distance.min() > least


@pytest.mark.parametrize("size, expected", [((50, 100), (150, 300)), ((200, 100), (300, 150)), ((9000, 1), (300, 1))])
def test_an_image_keeps_its_shape(size, expected):
    assert fit(Image.new("L", size), 300, 300) == expected


def test_an_image_lies_below_its_title_and_is_sharp():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype("uint8"))
    figure = new_figure(200, 100)
    axes = add_image(figure, image, (20, 10), (40, 30), "title")
    axes.scatter([35], [5], s=9, color="red")  # (x, y) in pixels of the image
    picture = np.asarray(to_image(figure))
    shown = picture[10 + LINE : 10 + LINE + 30, 20:60].copy()
    assert near(shown, "red")[3:7, 33:37].any()
    shown[:, 30:] = np.asarray(image)[:, 30:]
    np.testing.assert_array_equal(shown, image)
    ((_, box),) = places(figure)
    assert box[1] >= 10 and box[3] <= 10 + LINE and box[0] == pytest.approx(20, abs=2)


def test_maps_are_exact_at_the_centres_of_bins():
    """A lone bin of 1 among 0, and a ramp: bin i of 4 is centred at (i + 0.5) / 4 of the side."""
    for values in (np.eye(3)[1] * np.eye(3)[1][:, None], np.arange(4.0)[None].repeat(4, axis=0) / 3):
        figure = new_figure(80 * len(values), 80 * len(values))
        cover(add_panel(figure, (0, 0), (80 * len(values),) * 2), np.stack([values] * 3, axis=2))
        found = np.asarray(to_image(figure))[40::80, 40::80, 0]
        np.testing.assert_allclose(found, 255 * values, atol=4)


def test_maps_have_the_colours_of_magma_over_the_image():
    values = np.array([[0.0, 1.0], [np.nan, 0.5]])
    figure = new_figure(80, 80 + LINE)
    cover_map(add_image(figure, plain_image((200, 100, 0)), (0, 0), (80, 80)), values)
    found = np.asarray(to_image(figure))[LINE:][20::40, 20::40]
    magma = matplotlib.colormaps["magma"](np.nan_to_num(values))[..., :3] * 255
    np.testing.assert_allclose(found, (1 - OPACITY) * np.array([200, 100, 0]) + OPACITY * magma, atol=4)


def test_bar_runs_from_dark_to_bright():
    picture = np.asarray(bar_block("", "", 400)).astype(int)
    row = picture[LINE // 2, MARGIN + 8 : MARGIN + 8 + BAR[0]]
    ends = matplotlib.colormaps["magma"]([0.0, 1.0])[:, :3] * 255
    np.testing.assert_allclose(row[[1, -2]], ends, atol=12)
    assert (np.diff(row.sum(axis=1)) >= 0).all()


def test_text_wraps_and_keeps_every_word(monkeypatch):
    found = capture(monkeypatch)
    text = "Shown: 12 bins of view 1, with lines to all positives in view 2. " * 3
    one, long = text_block(["one"], 300), text_block([text, "unbreakable" * 2], 300)
    assert one.width == long.width == 300 and long.height > 5 * one.height / 2
    for block in (one, long):
        assert not near(block, "#e8e8e8", 90)[:, 300 - MARGIN + 2 :].any()  # the margin is free
        rows = np.flatnonzero(near(block, "#e8e8e8", 90).any(axis=1))
        assert 0 < rows.min() < LINE and block.height - 2 * MARGIN < rows.max() < block.height - MARGIN / 2
    assert words(found[-1])[-1] == "unbreakable" * 2 and len(words(found[-1])) > 5
    assert " ".join(words(found[-1])).split() == text.split() + ["unbreakable" * 2]


@pytest.mark.parametrize("width", [60, 200, 350])
def test_lines_are_full(width):
    """No line is too wide, and none has room for the first word of the next."""
    lines = wrap(("Shown: 12 bins of view 1, with lines to all positives in view 2. " * 3).strip(), width)
    assert max(map(text_width, lines)) <= width + 1
    for line, following in itertools.pairwise(lines):
        assert text_width(f"{line} {following.split()[0]}") > width - 1
    assert wrap("", 100) == [""]


def test_legend_has_a_square_of_its_colour_before_each_name():
    colours = ["#ff0000", "#00ff00", "#0000ff"]
    block = legend_block(["one", "two", "a third name"], colours, 300)
    left = [np.nonzero(near(block, colour))[1].min() for colour in colours]
    assert left[0] == pytest.approx(MARGIN, abs=1) and left == sorted(left)
    narrow = legend_block(["one", "two", "a third name"], colours, 160)
    rows = [np.nonzero(near(narrow, colour))[0].mean() for colour in colours]
    assert np.diff(rows).min() > 15 and narrow.height > block.height + 2 * 15


def test_a_long_legend_fits_into_its_width(monkeypatch):
    found = capture(monkeypatch)
    names = [f"class number {i}" for i in range(80)] + ["_hidden_", "w" * 200]
    block = legend_block(names, palette(82), 400)
    (legend,) = found[0].findobj(Legend)
    assert len(legend.get_texts()) == 82 and "_hidden_" in words(found[0])
    boxes = [box for _, box in places(found[0])]
    assert all(x0 >= 0 and x1 <= 400 and y0 >= -3 and y1 <= block.height + 3 for x0, y0, x1, y1 in boxes), boxes
    assert not any(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] - 4 and b[1] < a[3] - 4 for a, b in itertools.combinations(boxes, 2)
    )


def test_contact_sheet_stacks_rows():
    rows = [plain_image((200, 0, 0)), plain_image((0, 200, 0), (30, 30))]
    result = contact_sheet(rows)
    assert result.size == (40, 70)
    assert np.array_equal(np.asarray(result)[40:, :30], np.asarray(rows[1]))


def test_letters_read_on_their_ground():
    assert figures.is_bright("#ffd732") and not figures.is_bright("#000080")
