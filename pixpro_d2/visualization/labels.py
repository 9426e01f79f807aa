"""Names on coloured ground beside boxes in a picture, placed so that no name covers another."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from .figures import is_bright, plain, text_width

Box = tuple[float, float, float, float]  # (x0, y0, x1, y1)

SIZE = 10.5  # size of the letters
HEIGHT = 16
PADDING = 4  # left and right of the letters, pixels


def draw_labels(axes: Axes, labels: Sequence[tuple[str, Sequence[float], str]], avoid: Sequence[Box] = ()) -> None:
    """Draw the labels of the boxes in a panel.

    Args:
        axes: panel; no label leaves it.
        labels: (text, corners of the box, colour), the most important first, because it has the first choice of a
            place.
        avoid: further rectangles that labels keep clear of.
    """
    size = axes.get_window_extent()
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    x_scale, y_scale = right / size.width, bottom / size.height  # units of the panel for each pixel
    taken = list(avoid)
    for text, (x0, y0, x1, y1), colour in labels:
        width = (text_width(text, SIZE) + 2 * PADDING) * x_scale
        place = place_label(width, HEIGHT * y_scale, (x0, y0, x1, y1), (0, 0, right, bottom), taken)
        taken.append(place)
        axes.fill_between(place[::2], *place[1::2], color=colour, linewidth=0, zorder=4)
        axes.text(
            place[0] + PADDING * x_scale, (place[1] + place[3]) / 2, plain(text), size=SIZE, va="center",
            color="black" if is_bright(colour) else "white", zorder=5, clip_on=True,
        )  # fmt: skip


def place_label(width: float, height: float, box: Box, bounds: Box, taken: Sequence[Box]) -> Box:
    """Find the free place for a label that is closest to its box.

    The best place is above the box at its left, where the label hides neither the object nor its outline. The other
    corners come next, then any place.

    Args:
        width, height: size of the label in pixels.
        box, bounds: corners of the labelled box and of the picture.
        taken: places of other labels.

    Returns:
        A place inside ``bounds``, if the label is not larger; free of ``taken``, if there is room.
    """
    x0, y0, x1, y1 = box
    corners = [(x, y) for y in (y0 - height, y1, y0, y1 - height) for x in (x0, x1 - width)]
    columns = _steps(bounds[0], bounds[2] - width, width / 2)
    rows = _steps(bounds[1], bounds[3] - height, height)
    anywhere = sorted(((x, y) for x in columns for y in rows), key=lambda p: abs(p[0] - x0) + abs(p[1] - y0))
    # A corner outside the picture moves to its edge, if that keeps the label at the box.
    places = [_rectangle(*_clamp(corner, width, height, bounds), width, height) for corner in corners]
    places = [place for place in places if overlap(place, _grow(box, height)) > 0]
    places += [_rectangle(x, y, width, height) for x, y in anywhere]
    return min(places, key=lambda place: sum(overlap(place, other) for other in taken))  # the first of equals


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the area of the intersection of two rectangles (x0, y0, x1, y1)."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def upright(box: Sequence[float]) -> Box:
    """Return the corners (x0, y0, x1, y1), x0 < x1, of a signed crop box."""
    return min(box[0], box[2]), box[1], max(box[0], box[2]), box[3]


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + i * step for i in range(int(max(0, end - start) / step) + 1)]


def _clamp(corner: tuple[float, float], width: float, height: float, bounds: Box) -> tuple[float, float]:
    x, y = corner
    return max(bounds[0], min(x, bounds[2] - width)), max(bounds[1], min(y, bounds[3] - height))


def _rectangle(x: float, y: float, width: float, height: float) -> Box:
    return x, y, x + width, y + height


def _grow(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
