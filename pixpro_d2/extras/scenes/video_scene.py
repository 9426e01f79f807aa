"""Render synthetic videos with exactly known optical flow: the scenes of :mod:`.scene`, in motion.

A video is a stack of layers: the background, seen by a camera that pans, zooms and rolls, and objects in front with
their own motions. In every frame a layer is rotated, scaled and shifted as a whole. So a point of the layer is followed
from any frame to any other frame in closed form. The silhouettes in front decide whether the point is hidden. Only
light and shadows do not follow the flow, as in real videos: they stay with the world and with the shadow's caster.

Points are ``(x, y)`` in continuous pixel coordinates: the pixel ``[row, column]`` is centred at
``(column + 0.5, row + 0.5)``. Flow is ``(2, h, w)``, channel 0 = x, channel 1 = y, in units of its own grid's pixels.
The grid points lie evenly between the centres of the frame's first and last pixel (``align_corners=True``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...utils.errors import UsageError
from .scene import Scene, SceneObject, describe_scene, render_scene, signed_distance

FRAMES_PER_SCENE = 60  # frames after which the objects of another scene have entered
_ROUNDING = 1e-6  # tolerance: a point at rest on the border of the frame is inside


@dataclass(frozen=True)
class MovingScene:
    """Hold layers and their places in the frames; layer 0 is the background, layer k is object k - 1.

    Higher layers are further in front. With points as complex numbers x + iy, the point ``w`` of layer ``k`` is at
    ``offsets[t, k] + factors[t, k] * w`` in frame ``t``. The plane of the background is the world. The plane of an
    object is its frame, where its circumscribed circle has radius 1.
    """

    scene: Scene  # size of the frames, and looks; the positions of its objects are not used
    offsets: np.ndarray  # complex (frames, layers), pixels
    factors: np.ndarray  # complex (frames, layers), scale and rotation

    def __len__(self) -> int:
        return len(self.offsets)

    def seen(self, frame: int) -> Scene:
        """Return the scene of a frame, with its objects at their places in this frame."""
        return self._placed(self.offsets[frame, 1:], self.factors[frame, 1:])

    def render(self, frame: int) -> np.ndarray:
        """Draw a frame, uint8 (height, width, 3) RGB."""
        offset, factor = self.offsets[frame, 0], self.factors[frame, 0]
        in_world = self._placed((self.offsets[frame, 1:] - offset) / factor, self.factors[frame, 1:] / factor)
        turn, shift = 1 / factor, -offset / factor
        camera = ((turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag))
        return render_scene(in_world, camera)[0]

    def grid(self, shape: Sequence[int] | None = None) -> np.ndarray:
        """Return the points (h, w, 2) of a grid of ``shape`` (h, w), by default the centres of the pixels."""
        size = self.scene.height, self.scene.width
        y, x = (np.linspace(0.5, side - 0.5, count) for side, count in zip(size, shape or size, strict=True))
        return np.stack(np.meshgrid(x, y), axis=-1)

    def layers_at(self, frame: int, points: np.ndarray) -> np.ndarray:
        """Return the foremost layer, int16 (...), at ``points`` (..., 2) of a frame, also outside the frame."""
        return self._foremost(frame, _complex(points))

    def track(self, points: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow the content of frame ``start`` at ``points`` to frame ``stop``, which may be the earlier frame.

        A point is visible if no layer in front hides it, and if it lies between the centres of the frame's outermost
        pixels or on the border.

        Args:
            points: (..., 2).
            start: number of the first frame, from 0.
            stop: number of the last frame, from 0.

        Returns:
            The points in frame ``stop``, float64 (..., 2); whether the points are visible in frame ``stop``, bool
            (...); and whether the points are visible in every frame from ``start`` to ``stop``, bool (...).
        """
        place = _complex(points)
        layer = self._foremost(start, place)
        in_layer = (place - self.offsets[start, layer]) / self.factors[start, layer]
        along = np.ones(layer.shape, dtype=bool)
        step = 1 if stop >= start else -1
        for frame in range(start, stop + step, step):
            place = self.offsets[frame, layer] + self.factors[frame, layer] * in_layer
            # Rounding may miss the layer itself on its outline, so only layers in front count.
            visible = self._inside(place) & (self._foremost(frame, place) <= layer)
            along &= visible
        return np.stack([place.real, place.imag], axis=-1), visible, along

    def flow(self, start: int, stop: int, shape: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the exact flow between two frames on a grid of ``shape`` (h, w), by default the grid of the pixels.

        Returns:
            The flow from frame ``start`` to frame ``stop``, float32 (2, h, w), in pixels of the grid, also at points
            that are hidden or leave. Whether the grid points are visible in frame ``stop``, bool (h, w).
        """
        points = self.grid(shape)
        moved, visible, _ = self.track(points, start, stop)
        height, width = visible.shape
        displacement = (moved - points) * (width / self.scene.width, height / self.scene.height)
        return np.moveaxis(displacement, -1, 0).astype(np.float32), visible

    def _placed(self, offsets: np.ndarray, factors: np.ndarray) -> Scene:
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

    def _foremost(self, frame: int, place: np.ndarray) -> np.ndarray:
        layers = np.zeros(place.shape, dtype=np.int16)
        for layer, obj in enumerate(self.scene.objects, start=1):
            point = (place - self.offsets[frame, layer]) / self.factors[frame, layer]
            layers[signed_distance(obj.category, point.real, point.imag) <= 0] = layer
        return layers

    def _inside(self, place: np.ndarray) -> np.ndarray:
        far = np.array((self.scene.width, self.scene.height)) - 0.5 + _ROUNDING
        near = 0.5 - _ROUNDING
        return (place.real >= near) & (place.real <= far[0]) & (place.imag >= near) & (place.imag <= far[1])


@dataclass(frozen=True)
class Clip:
    """Hold a rendered video of n frames with its exact flow; entry i between frames belongs to frames i and i + 1."""

    scene: MovingScene
    frames: np.ndarray  # uint8 (n, H, W, 3), RGB
    forward: np.ndarray  # float32 (n - 1, 2, H, W): flow from frame i to i + 1, pixels
    backward: np.ndarray  # float32 (n - 1, 2, H, W): flow from frame i + 1 to i, pixels
    visible_forward: np.ndarray  # bool (n - 1, H, W): pixels of frame i that frame i + 1 shows
    visible_backward: np.ndarray  # bool (n - 1, H, W): pixels of frame i + 1 that frame i shows
    layers: np.ndarray  # int16 (n, H, W): layer of each pixel, as numbered by the scene

    @property
    def labels(self) -> np.ndarray:
        """Return the classes of the pixels, uint8 (n, H, W): 0 for background, else index into CLASSES plus one."""
        classes = [0, *(obj.category + 1 for obj in self.scene.scene.objects)]
        return np.array(classes, dtype=np.uint8)[self.layers]


def describe_video(
    rng: np.random.Generator, num_frames: int, height: int = 160, width: int = 320, clutter: bool = True
) -> MovingScene:
    """Describe a video of random scenes in random motion.

    Nearer objects are larger, in front, and faster. Speeds are in proportion to the shorter side of the frame: up to
    about 3 % of it from frame to frame. Objects of :func:`describe_scene` come and go; each is inside the frame at some
    moment. Every ``FRAMES_PER_SCENE`` frames, the objects of another scene join.

    Args:
        rng: the description depends only on this generator and the other arguments.
        num_frames: at least 2.
        height: height of the frames, pixels, at least 32.
        width: width of the frames, pixels, at least 32.
        clutter: whether the background is cluttered.
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


def render_clip(
    rng: np.random.Generator, num_frames: int, height: int = 160, width: int = 320, clutter: bool = True
) -> Clip:
    """Render a random video; see :func:`describe_video` for the arguments."""
    return render_video(describe_video(rng, num_frames, height, width, clutter))


def render_video(scene: MovingScene) -> Clip:
    """Render a moving scene with its flow."""
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


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


def _random_camera(
    rng: np.random.Generator, time: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and factors (frames, 1) of the world: the camera swings, and so never leaves the lit ground."""

    def swing(reach: float) -> np.ndarray:
        return reach * np.sin(2 * np.pi * (time / rng.uniform(60, 120) + rng.random()))

    side = min(height, width)
    middle = (width + 1j * height) / 2
    factor = np.exp(swing(0.25) + 1j * swing(0.03))  # zoom and roll about the middle of the frame
    return middle + side * (swing(0.25) + 1j * swing(0.08)) - factor * middle, factor


def _random_path(rng: np.random.Generator, time: np.ndarray, obj: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and factors (frames, 1) of an object that drifts, mostly sideways, turns and grows or shrinks.

    At some moment of the video, the object is at its place in the scene's description.
    """
    time = time - rng.uniform(0, time[-1, 0])
    speed = obj.size * rng.uniform(0.02, 0.07) * rng.choice((-1, 1))
    drift = speed * np.exp(1j * rng.uniform(-0.4, 0.4))
    spin = rng.uniform(-0.02, 0.02)
    growth = rng.uniform(-0.4, 0.4) / max(FRAMES_PER_SCENE / 2, len(time))
    factor = obj.size / 2 * np.exp(1j * obj.angle + (growth + 1j * spin) * time)
    return complex(*obj.centre) + drift * time, factor
