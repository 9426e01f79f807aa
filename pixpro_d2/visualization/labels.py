"""Names on coloured ground beside boxes in a picture, placed so that no name covers another."""

from collections.abc import Sequence

from .canvas import Canvas, Colour, text_width

Box = tuple[float, float, float, float]  # (x0, y0, x1, y1)

SIZE = 12  # size of the letters
HEIGHT = 17
PADDING = 4  # left and right of the letters, pixels


def draw_labels(
    canvas: Canvas, labels: Sequence[tuple[str, Box, Colour]], bounds: Box, avoid: Sequence[Box] = ()
) -> None:
    """Draw the labels of a picture's boxes.

    Args:
        canvas: canvas to draw on.
        labels: (text, corners of the box, RGB colour), the most important first, because it has the first choice of a
            place.
        bounds: corners of the picture, which no label leaves.
        avoid: further rectangles that labels keep clear of.
    """
    taken = list(avoid)
    for text, box, colour in labels:
        place = place_label(text_width(text, SIZE) + 2 * PADDING, HEIGHT, box, bounds, taken)
        taken.append(place)
        canvas.fill(place, colour)
        bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120
        canvas.text(place[0] + PADDING, place[1] + 1, text, (0, 0, 0) if bright else (255, 255, 255), SIZE)


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


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + i * step for i in range(int(max(0, end - start) / step) + 1)]


def _clamp(corner: tuple[float, float], width: float, height: float, bounds: Box) -> tuple[float, float]:
    x, y = corner
    return max(bounds[0], min(x, bounds[2] - width)), max(bounds[1], min(y, bounds[3] - height))


def _rectangle(x: float, y: float, width: float, height: float) -> Box:
    return x, y, x + width, y + height


def _grow(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
