"""Rendered videos: the flow is that of the pictures, and occlusion is known exactly."""

import dataclasses

import numpy as np
import pytest

from pixpro_d2.extras.scenes.scene import CLASSES, Scene, SceneObject, Texture, render_scene
from pixpro_d2.extras.scenes.video_scene import FRAMES_PER_SCENE, MovingScene, describe_video, render_clip, render_video
from pixpro_d2.utils.errors import UsageError

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def clips():
    return [render_clip(np.random.default_rng((0, index)), 6, HEIGHT, WIDTH) for index in range(4)]


def _squares(*centres, side=4, frames=2, background=0):
    """A 16 x 24 scene of squares, whose half diagonal is side / sqrt(2); a centre is x + iy, one or one a frame."""
    texture = Texture("noise", ((1, 1, 1), (0, 0, 0)), 1.0, 0.0, 0)
    obj = SceneObject(CLASSES.index("square"), (0, 0), 1.0, 0.0, texture)
    places = [np.broadcast_to(np.asarray(place, dtype=complex), frames) for place in (background, *centres)]
    factors = np.ones((frames, len(places)), dtype=complex)
    factors[:, 1:] = side / 2**0.5
    return MovingScene(Scene(16, 24, (obj,) * len(centres), 0, clutter=False), np.stack(places, axis=1), factors)


def _sample(image, x, y):
    """Bilinear samples (...) of an image (H, W) at pixel coordinates, those of centres being integers."""
    left, top = (
        np.clip(np.floor(a).astype(int), 0, side - 2) for a, side in ((x, image.shape[1]), (y, image.shape[0]))
    )
    s, t = x - left, y - top
    above = (1 - s) * image[top, left] + s * image[top, left + 1]
    below = (1 - s) * image[top + 1, left] + s * image[top + 1, left + 1]
    return (1 - t) * above + t * below


def _alike(layers, x, y):
    """Whether the four pixels around each point, inside the frame, show one layer, and that layer."""
    left, top = (np.clip(np.floor(a).astype(int), 0, side - 2) for a, side in ((x, WIDTH), (y, HEIGHT)))
    around = np.stack([layers[top + i, left + j] for i in (0, 1) for j in (0, 1)])
    return (around == around[0]).all(axis=0), around[0]


def test_two_layers_in_integer_motion():
    # The square covers columns 4-7 of rows 6-9 and moves by (2, 0); the background moves by (-1, 0).
    clip = render_video(_squares(np.array([6 + 8j, 8 + 8j]), background=np.array([0, -1])))
    expected = np.zeros((2, 16, 24), dtype=int)
    expected[0, 6:10, 4:8] = expected[1, 6:10, 6:10] = 1
    np.testing.assert_array_equal(clip.layers, expected)
    np.testing.assert_array_equal(clip.labels, expected * (CLASSES.index("square") + 1))
    moved = np.where(expected, 2, -1)
    np.testing.assert_allclose(clip.forward, np.stack([moved[:1], 0 * moved[:1]], axis=1), atol=1e-6)
    np.testing.assert_allclose(clip.backward, np.stack([-moved[1:], 0 * moved[1:]], axis=1), atol=1e-6)
    # Forward, the background of columns 7-10 comes to lie below the square, which covers column 7 already.
    visible = np.ones((16, 24), dtype=bool)
    visible[6:10, 8:11] = False
    visible[:, 0] = False  # leaves the frame
    np.testing.assert_array_equal(clip.visible_forward[0], visible)
    # Backward, it is that of columns 3-6, the square covering column 6 of the later frame.
    visible = np.ones((16, 24), dtype=bool)
    visible[6:10, 3:6] = False
    visible[:, 23] = False
    np.testing.assert_array_equal(clip.visible_backward[0], visible)


def test_a_point_is_followed_behind_an_object_that_crosses():
    # The second square, in front, moves by 4 columns a frame: over the first, at rest in columns 4-7, in frame 1.
    frames = 7
    scene = _squares(6 + 8j, 2 + 8j + 4 * np.arange(frames), frames=frames)
    points = np.array([[5.5, 7.5], [1.5, 7.5], [5.5, 3.5]])  # of the first, of the second, of the background
    moved, at_end, along = scene.track(points, 0, 2)
    np.testing.assert_allclose(moved, [[5.5, 7.5], [9.5, 7.5], [5.5, 3.5]])
    assert at_end.tolist() == [True, True, True] and along.tolist() == [False, True, True]
    _, at_end, along = scene.track(points, 0, 1)
    assert at_end.tolist() == along.tolist() == [False, True, True]
    # In frame 6 the second square covers columns 24-27, which the frame has not.
    moved, at_end, _ = scene.track(points, 0, 6)
    np.testing.assert_allclose(moved[1], [25.5, 7.5])
    assert at_end.tolist() == [True, False, True]
    # Back in time, the pixels where frame 2 shows the second square come from where frame 0 does.
    moved, at_end, along = scene.track(np.array([[9.5, 7.5], [5.5, 7.5]]), 2, 0)
    np.testing.assert_allclose(moved, [[1.5, 7.5], [5.5, 7.5]])
    assert at_end.tolist() == [True, True] and along.tolist() == [True, False]


def test_a_point_at_rest_on_the_border_is_visible():
    visible = _squares(6 + 8j).flow(0, 1)[1]
    assert visible.all()


def test_zoom_and_rotation():
    scene = _squares(np.array([10 + 8j, 13 + 6j]), background=np.array([0, -0.1 * (12 + 8j)]))
    scene.factors[1, 0] = 1.1  # about the centre of the frame, (12, 8)
    scene.factors[1, 1] *= 2j  # twice as large, and a quarter turn from x to y
    moved = scene.track(np.array([[2.0, 1.0], [11.0, 8.0], [10.0, 9.5]]), 0, 1)[0]
    # Background: (12, 8) + 1.1 * (-10, -7). Square: its centre + 2 * (1, 0) turned, its centre + 2 * (0, 1.5) turned.
    np.testing.assert_allclose(moved, [[1.0, 0.3], [13.0, 8.0], [10.0, 6.0]])


def test_flow_of_a_coarser_grid_is_exact_at_its_points_and_in_its_units():
    scene = _squares(10 + 8j, background=np.array([0, -0.1 * (12 + 8j)]))
    scene.factors[1, 0] = 1.1
    flow, visible = scene.flow(0, 1, (4, 6))
    assert flow.shape == (2, 4, 6) and flow.dtype == np.float32 and visible.shape == (4, 6)
    # The first and the last grid point are the centres (0.5, 0.5) and (23.5, 15.5) of the corner pixels, which move
    # by a tenth of their distance from (12, 8); a quarter of that in pixels of the grid.
    np.testing.assert_allclose(flow[:, 0, 0], [-1.15 / 4, -0.75 / 4], rtol=1e-5)
    np.testing.assert_allclose(flow[:, 3, 5], [1.15 / 4, 0.75 / 4], rtol=1e-5)
    # Columns 2 and rows 1 are at 0.5 + 2 * 23 / 5 = 9.7 and 0.5 + 15 / 3 = 5.5: on the background, above the square.
    np.testing.assert_allclose(flow[:, 1, 2], [-0.23 / 4, -0.25 / 4], rtol=1e-5)
    # Row 2 is at 10.5, below the square; a square of side 8 would reach it.
    assert scene.layers_at(0, scene.grid((4, 6)))[2, 2] == 0
    assert dataclasses.replace(scene, factors=scene.factors * [1, 2]).layers_at(0, scene.grid((4, 6)))[2, 2] == 1


def test_shapes_and_types(clips):
    for clip in clips:
        assert clip.frames.shape == (6, HEIGHT, WIDTH, 3) and clip.frames.dtype == np.uint8
        for flow in (clip.forward, clip.backward):
            assert flow.shape == (5, 2, HEIGHT, WIDTH) and flow.dtype == np.float32
        for visible in (clip.visible_forward, clip.visible_backward):
            assert visible.shape == (5, HEIGHT, WIDTH) and visible.dtype == bool
        assert clip.labels.shape == (6, HEIGHT, WIDTH) and clip.labels.dtype == np.uint8


def test_layers_are_what_is_drawn(clips):
    for clip in clips:
        for frame in (0, 5):
            masks = render_scene(clip.scene.seen(frame))[1]
            front = np.where(masks.any(axis=0), masks.argmax(axis=0) + 1, 0)
            assert (clip.layers[frame] != front).sum() <= 2  # Rounding, of pixels centred on the outline.


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_frame_warped_by_the_flow_is_the_next_one(direction):
    height, width = 128, 192
    y, x = np.indices((height, width))
    exact, shifted, still, hidden = [], [], [], []
    for index in range(3):
        clip = render_clip(np.random.default_rng((2, index)), 2, height, width)
        source, target = clip.frames[::-1] if direction == "forward" else clip.frames
        flow, visible = (getattr(clip, name)[0] for name in (direction, f"visible_{direction}"))

        def error(u, v, source=source, target=target):
            warped = np.stack([_sample(channel, x + u, y + v) for channel in np.moveaxis(source, -1, 0)], axis=-1)
            return np.abs(warped - target).mean(axis=-1)

        exact.append(error(*flow)[visible].mean())
        shifted.append(min(error(flow[0] + u, flow[1] + v)[visible].mean() for u, v in ((0.5, 0), (0, 0.5))))
        still.append(error(0, 0)[visible].mean())
        leaves = (x + flow[0] < 0) | (x + flow[0] > width - 1) | (y + flow[1] < 0) | (y + flow[1] > height - 1)
        hidden.append(error(*flow)[~visible & ~leaves].mean())
    assert np.max(exact) < 3  # of 255: what interpolation, light and shadows make
    assert np.all(np.array(shifted) > 1.3 * np.array(exact))
    assert np.mean(still) > 3 * np.mean(exact)
    assert np.mean(hidden) > 6 * np.mean(exact)


def test_forward_and_backward_cancel_where_visible(clips):
    y, x = np.indices((HEIGHT, WIDTH))
    checked = 0
    for clip in clips:
        for i in range(5):
            (u, v), seen = clip.forward[i], clip.visible_forward[i]
            alike, layer = _alike(clip.layers[i + 1], x + u, y + v)
            where = seen & alike & (layer == clip.layers[i])  # elsewhere, interpolation mixes the flow of two layers
            back = np.stack([_sample(component, x + u, y + v) for component in clip.backward[i]])
            np.testing.assert_allclose((back + (u, v))[:, where], 0, atol=1e-4)
            checked += where.mean() / 20
            wrong = ~seen & alike & (layer != clip.layers[i])  # hidden: the flow found there is another layer's
            assert not wrong.any() or np.abs((back + (u, v))[:, wrong]).max() > 0.5
    assert checked > 0.85


def test_composed_steps_are_the_track(clips):
    y, x = np.indices((HEIGHT, WIDTH))
    for clip in clips:
        points = clip.scene.grid()
        for start, stop, flows in ((0, 5, clip.forward), (5, 0, clip.backward[::-1])):
            step = 1 if stop > start else -1
            layer, at = clip.layers[start], np.stack([x, y]).astype(float)
            pure = np.ones((HEIGHT, WIDTH), dtype=bool)  # no interpolation between layers on the way
            for flow, frame in zip(flows, range(start, stop, step)):
                alike, found = _alike(clip.layers[frame], *at)
                pure &= alike & (found == layer)
                at = at + np.stack([_sample(component, *at) for component in flow])
            moved, at_end, along = clip.scene.track(points, start, stop)
            where = pure & along
            assert where.mean() > 0.6 and not (along & ~at_end).any()
            np.testing.assert_allclose(at[0][where] + 0.5, moved[where][:, 0], atol=1e-3)
            np.testing.assert_allclose(at[1][where] + 0.5, moved[where][:, 1], atol=1e-3)


def test_same_generator_gives_the_same_video(clips):
    again = render_clip(np.random.default_rng((0, 2)), 6, HEIGHT, WIDTH)
    for field in ("frames", "forward", "backward", "visible_forward", "visible_backward", "layers"):
        np.testing.assert_array_equal(getattr(again, field), getattr(clips[2], field))
    assert len({clip.frames.tobytes() for clip in clips}) == len(clips)


def test_motion_is_of_a_few_pixels_with_occlusion_and_objects_that_leave():
    crossings = leaving = 0
    fastest, hidden = [], []
    for index in range(8):
        scene = describe_video(np.random.default_rng((1, index)), 20, HEIGHT, WIDTH)
        points = scene.grid()
        layers = scene.layers_at(0, points)
        flow, visible = scene.flow(0, 1)
        fastest.append(np.hypot(*flow).max())
        hidden.append((~visible).mean())
        moved, at_end, _ = scene.track(points, 0, 19)
        inside = (moved >= 0.5).all(axis=-1) & (moved <= (WIDTH - 0.5, HEIGHT - 0.5)).all(axis=-1)
        crossings += ((layers > 0) & inside & ~at_end).any()  # of an object, hidden by another
        leaving += ((layers > 0) & ~inside).any()
    assert np.median(fastest) > 0.5 and np.max(fastest) < 6
    assert 0.005 < np.mean(hidden) < 0.1
    assert crossings >= 2 and leaving >= 2


def test_larger_objects_are_in_front():
    for index in range(4):
        objects = describe_video(np.random.default_rng(index), 2, HEIGHT, WIDTH).scene.objects
        assert [obj.size for obj in objects] == sorted(obj.size for obj in objects)


def test_long_videos_get_further_objects():
    frames = 2 * FRAMES_PER_SCENE
    scene = describe_video(np.random.default_rng(3), frames, HEIGHT, WIDTH)
    objects = scene.scene.objects
    assert len(scene) == frames and len(objects) >= 6  # three scenes of 2 or more
    shown = np.zeros(len(objects) + 1, dtype=int)
    for frame in range(0, frames, 2):
        shown[np.unique(scene.layers_at(frame, scene.grid((32, 48))))] += 1
    assert (shown > 0).sum() >= len(objects)  # all but what others hide whenever it is in the frame
    assert shown[1:].min() < frames / 2 * 0.7  # some are gone for a while


def test_videos_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="2 frames, not 1"):
        describe_video(np.random.default_rng(0), 1)
    with pytest.raises(UsageError, match="32 x 32"):
        describe_video(np.random.default_rng(0), 2, 16, 64)
