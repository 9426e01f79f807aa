"""Synthetic videos whose optical flow is known exactly: the scenes of :mod:`.scenes`, in motion.

A video is a stack of layers: the background, seen by a camera that pans, zooms and rolls, and objects in front of it,
each with its own motion. In every frame a layer is placed as a whole, turned, scaled and shifted, so a point of it is
followed from any frame to any other in closed form, and what hides it is known from the silhouettes in front.
Only light and shadows, which stay with the world and the shadow's caster, do not follow the flow, as in real videos.

Points are ``(x, y)`` in continuous pixel coordinates: the pixel ``[row, column]`` is centred at
``(column + 0.5, row + 0.5)``. Flow is ``(2, h, w)``, channel 0 = x, channel 1 = y, in units of its own grid's pixels;
its grid points lie evenly between the centres of the frame's first and last pixel (``align_corners=True``).
"""

from dataclasses import dataclass, replace

import numpy as np

from ...utils.errors import UsageError
from .scene import Scene, describe_scene, render_scene, signed_distance

FRAMES_PER_SCENE = 60  # Frames after which the objects of another scene have come into the frame.
_ROUNDING = 1e-6  # A point at rest on the border of the frame is inside, whatever its arithmetic made of it.


@dataclass(frozen=True)
class MovingScene:
    """Layers and their places in the frames; layer 0 is the background, layer k is object k - 1, further in front.

    With points as complex numbers x + iy, the point ``w`` of layer ``k`` is at ``offsets[t, k] + factors[t, k] * w`` in
    frame ``t``. The plane of the background is the world, that of an object is its frame, where its circumscribed
    circle has radius 1.
    """

    scene: Scene  # size of the frames, and looks: the places of its objects are not used
    offsets: np.ndarray  # complex (frames, layers), pixels
    factors: np.ndarray  # complex (frames, layers), scale and rotation

    def __len__(self):
        return len(self.offsets)

    def seen(self, frame):
        """The scene of a frame (Scene), its objects where this frame shows them."""
        return self._placed(self.offsets[frame, 1:], self.factors[frame, 1:])

    def render(self, frame):
        """Draw a frame; returns its image, uint8 (height, width, 3) RGB."""
        offset, factor = self.offsets[frame, 0], self.factors[frame, 0]
        in_world = self._placed((self.offsets[frame, 1:] - offset) / factor, self.factors[frame, 1:] / factor)
        turn, shift = 1 / factor, -offset / factor
        camera = ((turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag))
        return render_scene(in_world, camera)[0]

    def grid(self, shape=None):
        """Points (h, w, 2) of a grid of ``shape`` (h, w), by default the centres of the pixels."""
        size = self.scene.height, self.scene.width
        y, x = (np.linspace(0.5, side - 0.5, count) for side, count in zip(size, shape or size, strict=True))
        return np.stack(np.meshgrid(x, y), axis=-1)

    def layers_at(self, frame, points):
        """Foremost layer, int16 (...), at each of ``points`` (..., 2) of a frame, also of those outside it."""
        return self._foremost(frame, _complex(points))

    def track(self, points, start, stop):
        """Follow what frame ``start`` shows at ``points`` to frame ``stop``, which may be the earlier one.

        Args:
            points (numpy.ndarray): (..., 2).
            start (int), stop (int): numbers of the frames, from 0.

        Returns:
            tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]: the points in frame ``stop``, float64 (..., 2); whether
            they are visible there, bool (...); and whether they are in every frame from ``start`` to ``stop``. Visible
            is what no layer in front hides and what lies between the centres of the frame's outermost pixels, on the
            border included.
        """
        place = _complex(points)
        layer = self._foremost(start, place)
        in_layer = (place - self.offsets[start, layer]) / self.factors[start, layer]
        along = np.ones(layer.shape, dtype=bool)
        step = 1 if stop >= start else -1
        for frame in range(start, stop + step, step):
            place = self.offsets[frame, layer] + self.factors[frame, layer] * in_layer
            # The layer itself may be missed by rounding, on its outline: only those in front count.
            visible = self._inside(place) & (self._foremost(frame, place) <= layer)
            along &= visible
        return np.stack([place.real, place.imag], axis=-1), visible, along

    def flow(self, start, stop, shape=None):
        """Exact flow from frame ``start`` to frame ``stop`` on a grid of ``shape`` (h, w), by default of the pixels.

        Returns:
            tuple[numpy.ndarray, numpy.ndarray]: float32 (2, h, w), hidden and leaving points included, in pixels of
            the grid, and bool (h, w): the grid points that are visible in frame ``stop``.
        """
        points = self.grid(shape)
        moved, visible, _ = self.track(points, start, stop)
        height, width = visible.shape
        displacement = (moved - points) * (width / self.scene.width, height / self.scene.height)
        return np.moveaxis(displacement, -1, 0).astype(np.float32), visible

    def _placed(self, offsets, factors):
        objects = (
            replace(
                obj,
                centre=(float(offset.real), float(offset.imag)),
                size=2 * float(np.abs(factor)),
                angle=float(np.angle(factor)),
            )
            for obj, offset, factor in zip(self.scene.objects, offsets, factors, strict=True)
        )
        return replace(self.scene, objects=tuple(objects))

    def _foremost(self, frame, place):
        layers = np.zeros(place.shape, dtype=np.int16)
        for layer, obj in enumerate(self.scene.objects, start=1):
            point = (place - self.offsets[frame, layer]) / self.factors[frame, layer]
            layers[signed_distance(obj.category, point.real, point.imag) <= 0] = layer
        return layers

    def _inside(self, place):
        far = np.array((self.scene.width, self.scene.height)) - 0.5 + _ROUNDING
        near = 0.5 - _ROUNDING
        return (place.real >= near) & (place.real <= far[0]) & (place.imag >= near) & (place.imag <= far[1])


@dataclass(frozen=True)
class Clip:
    """A rendered video of n frames with its exact flow; entry i of what lies between frames is about i and i + 1."""

    scene: MovingScene
    frames: np.ndarray  # uint8 (n, H, W, 3), RGB
    forward: np.ndarray  # float32 (n - 1, 2, H, W): flow from frame i to i + 1, pixels
    backward: np.ndarray  # float32 (n - 1, 2, H, W): flow from frame i + 1 to i, pixels
    visible_forward: np.ndarray  # bool (n - 1, H, W): pixels of frame i that frame i + 1 shows
    visible_backward: np.ndarray  # bool (n - 1, H, W): pixels of frame i + 1 that frame i shows
    layers: np.ndarray  # int16 (n, H, W): what each pixel shows, as numbered by the scene

    @property
    def labels(self):
        """Classes of the pixels, uint8 (n, H, W): 0 for the background, index into CLASSES plus one for objects."""
        classes = [0, *(obj.category + 1 for obj in self.scene.scene.objects)]
        return np.array(classes, dtype=np.uint8)[self.layers]


def describe_video(rng, num_frames, height=160, width=320, clutter=True):
    """Describe a video of random scenes in random motion.

    Nearer objects are larger, in front, and faster. Speeds are in proportion to the shorter side of the frame: up to
    about 3 % of it from frame to frame. Objects of :func:`describe_scene`, each inside the frame at some moment, come
    and go; every ``FRAMES_PER_SCENE`` frames those of another scene join.

    Args:
        rng (numpy.random.Generator): all the description depends on, together with the other arguments.
        num_frames (int): at least 2.
        height (int), width (int): of the frames, pixels, at least 32.
        clutter (bool): as of a scene.

    Returns:
        MovingScene:
    """
    if num_frames < 2:
        raise UsageError(f"a video needs at least 2 frames, not {num_frames}")
    seeds = rng.integers(2**31, size=1 + num_frames // FRAMES_PER_SCENE)
    scenes = [describe_scene(int(seed), 0, height, width, clutter) for seed in seeds]
    objects = sorted((obj for scene in scenes for obj in scene.objects), key=lambda obj: obj.size)
    time = np.arange(num_frames)[:, None]
    background = _random_camera(rng, time, height, width)
    layers = [background, *(_random_path(rng, time, obj) for obj in objects)]
    offsets, factors = (np.concatenate(parts, axis=1) for parts in zip(*layers, strict=True))
    return MovingScene(replace(scenes[0], objects=tuple(objects)), offsets, factors)


def render_clip(rng, num_frames, height=160, width=320, clutter=True):
    """Render a random video; arguments as of :func:`describe_video`, returns a :class:`Clip`."""
    return render_video(describe_video(rng, num_frames, height, width, clutter))


def render_video(scene):
    """Render the :class:`Clip` of a :class:`MovingScene`."""
    pairs = range(len(scene) - 1)
    forward, visible_forward = zip(*(scene.flow(i, i + 1) for i in pairs), strict=True)
    backward, visible_backward = zip(*(scene.flow(i + 1, i) for i in pairs), strict=True)
    return Clip(
        scene=scene,
        frames=np.stack([scene.render(frame) for frame in range(len(scene))]),
        forward=np.stack(forward),
        backward=np.stack(backward),
        visible_forward=np.stack(visible_forward),
        visible_backward=np.stack(visible_backward),
        layers=np.stack([scene.layers_at(frame, scene.grid()) for frame in range(len(scene))]),
    )


def _complex(points):
    return points[..., 0] + 1j * points[..., 1]


def _random_camera(rng, time, height, width):
    """Offsets and factors (frames, 1) of the world: a camera that swings, and so never leaves the lit ground."""

    def swing(reach):
        return reach * np.sin(2 * np.pi * (time / rng.uniform(60, 120) + rng.random()))

    side = min(height, width)
    middle = (width + 1j * height) / 2
    factor = np.exp(swing(0.25) + 1j * swing(0.03))  # Zoom and roll about the middle of the frame.
    return middle + side * (swing(0.25) + 1j * swing(0.08)) - factor * middle, factor


def _random_path(rng, time, obj):
    """Offsets and factors (frames, 1) of an object that drifts, mostly sideways, turns and grows or shrinks.

    At some moment of the video it is where the scene describes it.
    """
    time = time - rng.uniform(0, time[-1, 0])
    speed = obj.size * rng.uniform(0.02, 0.07) * rng.choice((-1, 1))
    drift = speed * np.exp(1j * rng.uniform(-0.4, 0.4))
    spin = rng.uniform(-0.02, 0.02)
    growth = rng.uniform(-0.4, 0.4) / max(FRAMES_PER_SCENE / 2, len(time))
    factor = obj.size / 2 * np.exp(1j * obj.angle + (growth + 1j * spin) * time)
    return complex(*obj.centre) + drift * time, factor
