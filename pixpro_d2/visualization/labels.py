"""Names on coloured ground beside boxes in a picture, none of which covers another."""

from .canvas import text_width

SIZE = 12  # of the letters
HEIGHT = 17
PADDING = 4  # left and right of the letters, pixels


def draw_labels(canvas, labels, bounds, avoid=()):
    """Draw the labels of a picture's boxes.

    Args:
        canvas (Canvas): to draw on.
        labels (list[tuple]): (text, corners (x0, y0, x1, y1) of the box, RGB colour), the most important first:
            it has the first choice of a place.
        bounds (tuple): (x0, y0, x1, y1) of the picture, which no label leaves.
        avoid (Sequence[tuple]): further rectangles that labels keep clear of.
    """
    taken = list(avoid)
    for text, box, colour in labels:
        place = place_label(text_width(text, SIZE) + 2 * PADDING, HEIGHT, box, bounds, taken)
        taken.append(place)
        canvas.fill(place, colour)
        bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120
        canvas.text(place[0] + PADDING, place[1] + 1, text, (0, 0, 0) if bright else (255, 255, 255), SIZE)


def place_label(width, height, box, bounds, taken):
    """Where to put a label of a box: as close to it as is free.

    Above the box at its left is best, as there it hides neither the object nor its outline; then the other corners,
    then anywhere.

    Args:
        width, height (float): of the label in pixels.
        box, bounds (tuple): (x0, y0, x1, y1) of the labelled box and of the picture.
        taken (list[tuple]): places (x0, y0, x1, y1) of other labels.

    Returns:
        tuple: (x0, y0, x1, y1) inside ``bounds``, if the label is not larger; free of ``taken``, if there is room.
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


def overlap(a, b):
    """Area that two rectangles (x0, y0, x1, y1) share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _steps(start, end, step):
    return [start + i * step for i in range(int(max(0, end - start) / step) + 1)]


def _clamp(corner, width, height, bounds):
    x, y = corner
    return max(bounds[0], min(x, bounds[2] - width)), max(bounds[1], min(y, bounds[3] - height))


def _rectangle(x, y, width, height):
    return x, y, x + width, y + height


def _grow(box, by):
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
