"""Draw small synthetic scenes: textured objects of a few shape classes on a textured, cluttered background.

The two kinds of objects have the same shapes. The texture of a "shape" is independent of its class, so only the outline
shows the class: this is hard to learn. A "thing" has the pattern of its class and a colour near the hue of its class,
like fruit and fabrics: a network learns it in minutes.

:func:`describe_scene` describes a scene as a :class:`Scene`, and :func:`render_scene` draws it. So a description can be
moved, or seen by another camera, and drawn again.

Positions and lengths are in world units: pixels of the frame of the description, x to the right, y down. The frame is
``[0, width] x [0, height]``. Object textures live in the object's own frame. The background lives in the world, without
bounds. So each keeps its pattern wherever the object or the camera moves.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...utils.errors import UsageError

CLASSES = ("disk", "square", "triangle", "star", "ring")  # a category is an index into this tuple
MIN_VISIBLE = 0.4  # least visible share of the area of each described object

_PATTERNS = ("stripes", "checks", "dots", "noise")
_PATTERNS_OF_THINGS = ("dots", "checks", "stripes", "noise", "bricks")  # pattern of each class
_HUE_SPREAD = 0.05  # standard deviation of a thing's hue, in turns; hues of two classes are 0.2 apart
_LATTICE = 64  # period of the random lattices in cells, a power of two: far more than a frame shows


@dataclass(frozen=True)
class Kind:
    """Describe a kind of objects, and the scenes that show it."""

    sizes: tuple[float, float]  # smallest and largest size, in shorter sides of the frame
    most: int  # most objects in a scene
    vividness: float  # vividness of the ground: 1 for colours as vivid as the objects, 0 for greys


KINDS = {"shapes": Kind((0.15, 0.45), 6, 1.0), "things": Kind((0.3, 0.6), 4, 0.4)}


@dataclass(frozen=True)
class Texture:
    """Describe a two-coloured pattern in a plane; lengths are in the units of the plane."""

    pattern: str  # "stripes", "checks", "dots", "bricks" or "noise"
    colours: tuple[tuple[float, ...], tuple[float, ...]]  # two RGB triples in [0, 1]
    period: float  # period of the pattern (noise: size of its coarsest cells)
    angle: float  # rotation of the pattern, radians
    seed: int  # seed of the noise


@dataclass(frozen=True)
class SceneObject:
    """Describe an object; its class decides its silhouette, and for a thing its pattern and hue."""

    category: int  # index into CLASSES
    centre: tuple[float, float]  # (x, y), world units
    size: float  # diameter of the circumscribed circle, world units
    angle: float  # rotation from x towards y, radians
    texture: Texture  # in the object's frame, where the circumscribed circle has radius 1


@dataclass(frozen=True)
class Scene:
    """Describe a frame and its objects, from back to front.

    ``background_seed`` is the seed of background and light. ``clutter`` adds patches, lines and specks that look as
    textured as the objects. ``vividness`` is the vividness of the ground.
    """

    height: int
    width: int
    objects: tuple[SceneObject, ...]
    background_seed: int
    clutter: bool = True
    vividness: float = 1.0


def describe_scene(
    seed: int, index: int, height: int = 160, width: int = 160, clutter: bool = True, kind: str = "shapes"
) -> Scene:
    """Describe scene ``index`` of the series ``seed``, for a frame of at least 32 x 32 pixels.

    The description depends on the arguments only, so it is the same for any number of scenes.

    Returns:
        Scene with 2 or more objects of a kind of ``KINDS``. Each object is centred inside the frame, and at least
        ``MIN_VISIBLE`` of its pixels are visible.
    """
    side = min(height, width)
    if side < 32:
        raise UsageError(f"a scene needs at least 32 x 32 pixels, not {width} x {height}")
    rng = np.random.default_rng((seed, index))
    # An object reaches at most half its size out of the frame, so this margin holds all of the object.
    margin = int(np.ceil((0.025 + KINDS[kind].sizes[1] / 2) * side))
    inside = np.s_[margin : margin + height, margin : margin + width]
    x, y = (a - margin for a in _pixel_centres(height + 2 * margin, width + 2 * margin))

    background_seed = int(rng.integers(2**31))
    wanted = int(rng.integers(2, KINDS[kind].most + 1))
    objects: list[SceneObject] = []
    visible: list[np.ndarray] = []
    areas: list[int] = []
    while len(objects) < wanted:
        candidate = _random_object(rng, side, height, width, kind)
        mask = _coverage(candidate, *to_object_frame(candidate, x, y), 1) >= 0.5
        left = [behind & ~mask[inside] for behind in visible] + [mask[inside]]
        whole = [*areas, mask.sum()]
        if all(seen.sum() >= MIN_VISIBLE * area for seen, area in zip(left, whole, strict=True)):
            objects, visible, areas = [*objects, candidate], left, whole
        elif rng.random() < 0.1:  # accept fewer objects in a crowded frame
            wanted = max(2, wanted - 1)
    return Scene(height, width, tuple(objects), background_seed, clutter, KINDS[kind].vividness)


def render_scene(
    scene: Scene, camera: Sequence[Sequence[float]] | np.ndarray = ((1, 0, 0), (0, 1, 0))
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Args:
        scene: scene to draw.
        camera: 2x3 affine matrix (rotation, uniform scale, translation) from image coordinates to world coordinates.
            Pixel ``[row, column]`` is centred at ``(column + 0.5, row + 0.5)``.

    Returns:
        The image, uint8 ``(height, width, 3)`` RGB with anti-aliased edges, and the masks, bool
        ``(len(scene.objects), height, width)``. A mask holds the pixels that the object covers at least by half, and
        that no object in front covers by half.
    """
    camera = np.asarray(camera, dtype=np.float32)
    columns, rows = _pixel_centres(scene.height, scene.width)
    x, y = (a * columns + b * rows + c for a, b, c in camera)
    pixel = float(np.sqrt(abs(np.linalg.det(camera[:, :2]))))  # side of a pixel in world units
    side = min(scene.height, scene.width)

    rng = np.random.default_rng(scene.background_seed)
    image = _background(rng, x / side, y / side, pixel / side, scene)
    light_angle = rng.uniform(0, 2 * np.pi)  # direction of the light; shadows fall the other way
    light_x, light_y = float(np.cos(light_angle)), float(np.sin(light_angle))
    relief = rng.uniform(0.1, 0.4)
    front = np.full((scene.height, scene.width), -1)
    for number, obj in enumerate(scene.objects):
        shift = 0.05 * obj.size
        shadow = to_object_frame(obj, x + shift * light_x, y + shift * light_y)
        image *= (1 - 0.4 * _coverage(obj, *shadow, 0.12 * obj.size))[..., None]
        u, v = to_object_frame(obj, x, y)
        coverage = _coverage(obj, u, v, pixel)
        front[coverage >= 0.5] = number
        hit = coverage > 0
        colour = _paint(obj.texture, u[hit], v[hit], 2 * pixel / obj.size)
        towards_light = (x[hit] - obj.centre[0]) * light_x + (y[hit] - obj.centre[1]) * light_y
        colour *= (1 + relief * towards_light / (obj.size / 2))[:, None]
        image[hit] += coverage[hit][:, None] * (colour - image[hit])
    image *= _light(rng, light_x, light_y, x / side, y / side)
    masks = front == np.arange(len(scene.objects))[:, None, None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), masks


def mask_to_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the tight box ``(x0, y0, x1, y1)``, integers, of a non-empty bool mask ``(height, width)``.

    The box is in image coordinates: ``x1`` and ``y1`` are one past the last column and row of the mask.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def to_object_frame(obj: SceneObject, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map world points, two arrays of one shape, to the frame of an object, where the object fits the unit circle."""
    return _rotate((x - obj.centre[0]) * (2 / obj.size), (y - obj.centre[1]) * (2 / obj.size), -obj.angle)


def _pixel_centres(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((height, width), dtype=np.float32) + np.float32(0.5)
    return x, y


def _rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * x - sin * y, sin * x + cos * y


def _random_object(rng: np.random.Generator, side: int, height: int, width: int, kind: str) -> SceneObject:
    size = side * rng.uniform(*KINDS[kind].sizes)
    category = int(rng.integers(len(CLASSES)))
    patterns: tuple[str, ...] = _PATTERNS
    hue: float | None = None
    if kind == "things":
        patterns, hue = (_PATTERNS_OF_THINGS[category],), category / len(CLASSES)
    return SceneObject(
        category=category,
        centre=(rng.uniform(0, width), rng.uniform(0, height)),
        size=size,
        angle=rng.uniform(0, 2 * np.pi),
        # The period is relative to the frame, so that patterns of small objects are not finer than a pixel.
        texture=_random_texture(rng, side * rng.uniform(0.04, 0.09) / (size / 2), patterns, hue),
    )


def _random_texture(
    rng: np.random.Generator, period: float, patterns: Sequence[str], hue: float | None = None
) -> Texture:
    """Draw a texture of one of the patterns in two colours; with a ``hue`` (turns), in a like colour and a grey."""
    pattern = patterns[int(rng.integers(len(patterns)))]
    first = second = _random_colour(rng) if hue is None else _colour_near(rng, hue)
    while np.abs(first - second).sum() < 0.5:  # similar colours would hide the pattern
        second = _random_colour(rng) if hue is None else np.full(3, rng.uniform(0.05, 0.95))
    colours = tuple(first.tolist()), tuple(second.tolist())
    return Texture(pattern, colours, period, angle=rng.uniform(0, np.pi), seed=int(rng.integers(2**31)))


def _random_colour(rng: np.random.Generator) -> np.ndarray:
    rgb = rng.uniform(0.05, 0.95, 3)
    return rgb.mean() + rng.uniform(0.1, 0.9) * (rgb - rgb.mean())  # from almost grey to almost saturated


def _colour_near(rng: np.random.Generator, hue: float) -> np.ndarray:
    rgb = colorsys.hsv_to_rgb(rng.normal(hue, _HUE_SPREAD) % 1, rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.95))
    return np.array(rgb)


def signed_distance(category: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the distance to the silhouette of a class, negative inside, in the object's frame."""
    name = CLASSES[category]
    if name == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.5**0.5
    if name == "triangle":
        return np.maximum(-u, 0.5 * u + 0.75**0.5 * np.abs(v)) - 0.5
    radius = np.hypot(u, v)
    if name == "disk":
        return radius - 1
    if name == "ring":
        return np.abs(radius - 0.75) - 0.25
    # Star: fold the plane onto half an arm, whose edge is the line from the tip (1, 0) to the inner corner.
    arm, angle = 2 * np.pi / 5, np.arctan2(v, u)
    angle = np.abs(angle - arm * np.round(angle / arm))
    corner_x, corner_y = 0.42 * float(np.cos(arm / 2)), 0.42 * float(np.sin(arm / 2))
    edge = ((1 - corner_x) ** 2 + corner_y**2) ** 0.5
    return ((radius * np.cos(angle) - 1) * corner_y + radius * np.sin(angle) * (1 - corner_x)) / edge


def _coverage(obj: SceneObject, u: np.ndarray, v: np.ndarray, softness: float) -> np.ndarray:
    """Return the covered share in [0, 1] of each point; the object's edge is ``softness`` world units wide."""
    return _soft_step(signed_distance(obj.category, u, v), softness / (obj.size / 2))


def _soft_step(distance: np.ndarray, width: float) -> np.ndarray:
    """Return 1 where ``distance`` is negative, 0 where it is positive, with a ramp of ``width`` around zero."""
    return np.clip(0.5 - distance / width, 0, 1)


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the integer and the fractional part."""
    whole = np.floor(x)
    return whole.astype(np.int64), x - whole


def _noise(seed: int, x: np.ndarray, y: np.ndarray, octaves: int) -> np.ndarray:
    """Return value noise in [0, 1] with cells of size 1; each further octave has half the size and strength."""
    table = np.random.default_rng(seed).random(_LATTICE * _LATTICE, dtype=np.float32)
    total: Any = 0
    for octave in range(octaves):
        # Rotate and shift the grids of the octaves, so that they do not align.
        s, t = _rotate(x * 2**octave, y * 2**octave, 0.7 * octave)
        (column, s), (row, t) = _split(s + 7.3 * octave), _split(t + 3.1 * octave)
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        left, right = column & (_LATTICE - 1), (column + 1) & (_LATTICE - 1)
        upper, lower = (row & (_LATTICE - 1)) * _LATTICE, ((row + 1) & (_LATTICE - 1)) * _LATTICE
        above = (1 - s) * table.take(upper + left) + s * table.take(upper + right)
        below = (1 - s) * table.take(lower + left) + s * table.take(lower + right)
        total = total + 0.5**octave * ((1 - t) * above + t * below)
    return total / (2 - 0.5 ** (octaves - 1))


def _paint(texture: Texture, u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
    """Return the colours ``(..., 3)`` of a texture at points of its plane, where a pixel is ``pixel`` units wide."""
    s, t = _rotate(u / texture.period, v / texture.period, -texture.angle)
    grain = _noise(texture.seed, s, t, 5 if texture.pattern == "noise" else 3)
    blur = pixel / texture.period
    a, b = np.abs(_split(s)[1] - 0.5), np.abs(_split(t)[1] - 0.5)  # distances from the middle of the cell
    if texture.pattern == "stripes":
        mix = _soft_step(a - 0.25, blur)
    elif texture.pattern == "checks":
        a, b = a - 0.25, b - 0.25
        mix = _soft_step(np.copysign(np.minimum(np.abs(a), np.abs(b)), a * b), blur)
    elif texture.pattern == "bricks":
        joint = 0.5 * (_split(t)[0] & 1)  # every other row is shifted by half a brick
        a = np.abs(_split(0.6 * s + joint)[1] - 0.5)
        mix = 1 - _soft_step(np.maximum(a - 0.42, b - 0.38), blur)
    elif texture.pattern == "dots":
        mix = _soft_step(np.hypot(a, b) - 0.32, blur)
    else:
        mix = _soft_step(grain - 0.5, 0.4)
    first, second = np.array(texture.colours, dtype=np.float32)
    return (first + mix[..., None] * (second - first)) * (0.7 + 0.6 * grain)[..., None]


def _background(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, pixel: float, scene: Scene) -> np.ndarray:
    """Return the colours ``(..., 3)`` of an unbounded ground; lengths are in sides of the frame."""
    image = _paint(_random_texture(rng, rng.uniform(0.15, 0.4), ("noise",)), x, y, pixel)
    grey = image.mean(axis=-1, keepdims=True)
    image = grey + scene.vividness * (image - grey)
    if not scene.clutter:
        return image
    # Ragged patches have textures as fine as the objects, so that texture does not reveal the objects.
    for _ in range(2):
        scale = rng.uniform(1.5, 3)
        distance = _noise(int(rng.integers(2**31)), x * scale, y * scale, 4) - rng.uniform(0.35, 0.5)
        patch = _paint(_random_texture(rng, rng.uniform(0.04, 0.09), _PATTERNS), x, y, pixel)
        image += _soft_step(distance, rng.uniform(0.01, 0.1))[..., None] * (patch - image)
    # Draw long thin lines, then elongated blobs, then specks.
    for cell, length, width in ((0.7, 0.4, 0.015), (0.35, 0.2, 0.1), (0.12, 0.2, 0.12)):
        _draw_strokes(rng, image, x, y, pixel, cell * rng.uniform(0.7, 1.3), length, width)
    return image


def _draw_strokes(
    rng: np.random.Generator,
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    pixel: float,
    cell: float,
    length: float,
    width: float,
) -> None:
    """Draw round-ended strokes onto ``image``, in half of the cells of a rotated grid.

    ``length`` and ``width`` bound the strokes' half-length and half-width, in cells. No stroke leaves its cell, so each
    point depends on a single stroke.
    """
    (column, s), (row, t) = (_split(a) for a in _rotate(x / cell, y / cell, rng.uniform(0, np.pi)))
    index = (row & (_LATTICE - 1)) * _LATTICE + (column & (_LATTICE - 1))

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, _LATTICE * _LATTICE).astype(np.float32)[index]

    reach = 0.5 - length - width
    along, across = s - 0.5 - draw(-reach, reach), t - 0.5 - draw(-reach, reach)
    angle = draw(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = cos * along + sin * across, cos * across - sin * along
    past_end = np.maximum(np.abs(along) - draw(length / 2, length), 0)
    distance = np.hypot(past_end, across) - draw(width / 3, width)
    opacity = np.clip(draw(-1, 1), 0, 0.9) * _soft_step(distance, pixel / cell)
    colour = np.stack([draw(0, 1) for _ in range(3)], axis=-1)
    image += opacity[..., None] * (colour - image)


def _light(rng: np.random.Generator, light_x: float, light_y: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the factor ``(..., 3)`` of an uneven, tinted light that is brighter on the side of the light."""
    ramp = rng.uniform(0, 0.8) * ((x - 0.5) * light_x + (y - 0.5) * light_y)
    clouds = rng.uniform(0, 1) * (_noise(int(rng.integers(2**31)), 2 * x, 2 * y, 2) - 0.5)
    tint = rng.uniform(0.85, 1.1, 3).astype(np.float32)
    return np.clip(rng.uniform(0.75, 1.25) + ramp + clouds, 0.2, 1.8)[..., None] * tint
