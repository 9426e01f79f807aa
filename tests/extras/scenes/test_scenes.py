"""Synthetic scenes: deterministic, with exact masks and boxes, and textures that move with their objects."""

import colorsys
import dataclasses

import numpy as np
import pytest

from pixpro_d2.extras.scenes.scene import (
    CLASSES,
    MIN_VISIBLE,
    Scene,
    SceneObject,
    Texture,
    describe_scene,
    mask_to_box,
    render_scene,
)
from pixpro_d2.utils.errors import UsageError

SIZE = 96


@pytest.fixture(scope="module")
def rendered():
    scenes = [describe_scene(7, index, SIZE, SIZE) for index in range(30)]
    return [(scene, *render_scene(scene)) for scene in scenes]


def test_same_arguments_give_the_same_scene(rendered):
    for index in (29, 3):  # In another order than the fixture's.
        scene, image, masks = rendered[index]
        again = describe_scene(7, index, SIZE, SIZE)
        assert again == scene
        image_again, masks_again = render_scene(again)
        np.testing.assert_array_equal(image_again, image)
        np.testing.assert_array_equal(masks_again, masks)


def test_other_seeds_and_indices_give_other_scenes(rendered):
    images = {image.tobytes() for _, image, _ in rendered}
    images |= {render_scene(describe_scene(8, index, SIZE, SIZE))[0].tobytes() for index in range(3)}
    assert len(images) == len(rendered) + 3


def test_things_have_pattern_and_hue_of_their_class():
    objects = [obj for index in range(60) for obj in describe_scene(7, index, SIZE, SIZE, kind="things").objects]
    patterns = {(CLASSES[obj.category], obj.texture.pattern) for obj in objects}
    assert patterns == {
        ("disk", "dots"), ("square", "checks"), ("triangle", "stripes"), ("star", "noise"), ("ring", "bricks"),
    }  # fmt: skip
    turns = [colorsys.rgb_to_hsv(*obj.texture.colours[0])[0] - obj.category / len(CLASSES) for obj in objects]
    distances = np.array([abs((turn + 0.5) % 1 - 0.5) for turn in turns])
    assert distances.max() < 0.25 and 0.04 < np.sqrt(np.mean(distances**2)) < 0.06  # a deviation of 0.05
    assert all(len(set(obj.texture.colours[1])) == 1 for obj in objects)  # a grey
    assert all(0.3 <= obj.size / SIZE <= 0.6 for obj in objects)


def test_the_ground_of_things_is_less_vivid():
    """Light tints both grounds alike, so the differences of channels from their mean have the ratio of 0.4 about."""
    shapes, things = (
        render_scene(Scene(SIZE, SIZE, (), 11, clutter=False, vividness=vividness))[0].astype(float)
        for vividness in (1.0, 0.4)
    )
    chroma = [np.abs(image - image.mean(axis=2, keepdims=True)).mean() for image in (shapes, things)]
    assert 0.3 < chroma[1] / chroma[0] < 0.55
    np.testing.assert_allclose(things.mean(), shapes.mean(), rtol=0.03)


def test_bricks_and_joints_have_their_share():
    """A brick fills 0.84 of its length and 0.76 of its height; bricks are black here, joints are white."""
    walls = []
    for brick in (0.0, 0.6):
        texture = Texture("bricks", ((brick,) * 3, (0.6,) * 3), period=0.25, angle=0.0, seed=0)
        wall = SceneObject(CLASSES.index("square"), (48.0, 48.0), 96.0, 0.0, texture)
        image, _ = render_scene(Scene(SIZE, SIZE, (wall,), 0, clutter=False))
        walls.append(image[24:72, 24:64].astype(float))  # 2 bricks of 20 pixels in each of 4 rows of 12
    assert 1 - (walls[0] / walls[1]).mean() == pytest.approx(0.84 * 0.76, abs=0.01)


def test_image_and_masks_have_the_size_of_the_frame():
    scene = describe_scene(0, 0, height=48, width=80)
    image, masks = render_scene(scene)
    assert image.shape == (48, 80, 3) and image.dtype == np.uint8
    assert masks.shape == (len(scene.objects), 48, 80) and masks.dtype == bool


def test_a_frame_too_small_is_refused():
    with pytest.raises(UsageError, match="32"):
        describe_scene(0, 0, 160, 31)


def test_scenes_hold_2_to_6_objects_of_every_class(rendered):
    counts = [len(scene.objects) for scene, _, _ in rendered]
    assert min(counts) >= 2 and max(counts) <= 6 and len(set(counts)) > 2
    seen = {obj.category for scene, _, _ in rendered for obj in scene.objects}
    assert seen == set(range(len(CLASSES)))


def test_sizes_are_15_to_45_percent(rendered):
    sizes = np.array([obj.size / SIZE for scene, _, _ in rendered for obj in scene.objects])
    assert sizes.min() >= 0.15 and sizes.max() <= 0.45
    assert sizes.min() < 0.2 and sizes.max() > 0.4


def test_boxes_are_tight(rendered):
    for _, _, masks in rendered:
        for mask in masks:
            points = [(x, y) for y in range(SIZE) for x in range(SIZE) if mask[y, x]]
            xs, ys = zip(*points, strict=True)
            assert mask_to_box(mask) == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)


def test_objects_show_enough_of_themselves(rendered):
    shares = []
    for scene, _, masks in rendered:
        for obj, mask in zip(scene.objects, masks, strict=True):
            # Its own area: the object alone, moved by whole pixels to the middle of a frame that holds it.
            centre = (obj.centre[0] % 1 + 24, obj.centre[1] % 1 + 24)
            alone = Scene(50, 50, (dataclasses.replace(obj, centre=centre),), 0)
            shares.append(mask.sum() / render_scene(alone)[1].sum())
    assert min(shares) >= MIN_VISIBLE == 0.4
    assert max(shares) == 1
    assert np.mean(np.array(shares) < 0.95) > 0.1  # Some are occluded or cut by the frame.


def test_later_objects_are_in_front(rendered):
    overlaps = 0
    for scene, _, masks in rendered:
        assert masks.sum(axis=0).max() == 1
        alone = [render_scene(dataclasses.replace(scene, objects=(obj,)))[1][0] for obj in scene.objects]
        for number, mask in enumerate(masks):
            expected = alone[number].copy()
            for other in alone[number + 1 :]:
                expected &= ~other
            np.testing.assert_array_equal(mask, expected)
            overlaps += (alone[number] & ~mask).any()
    assert overlaps


def _inside(name, u, v):
    """Silhouettes, independently: from their polygons and circles."""
    if name in ("disk", "ring"):
        return (0.5 if name == "ring" else 0) <= np.hypot(u, v) <= 1
    corners, radii = {"square": (4, (1, 1)), "triangle": (3, (1, 1)), "star": (5, (1, 0.42))}[name]
    # A square's and a triangle's edges join the tips; a star's go by its inner corners.
    keep = slice(None) if name == "star" else slice(None, None, 2)
    start = np.pi / 4 if name == "square" else 0
    turns = start + np.arange(2 * corners) * np.pi / corners
    points = [(radii[i % 2] * np.cos(a), radii[i % 2] * np.sin(a)) for i, a in enumerate(turns)][keep]
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossings += (y0 > v) != (y1 > v) and u < x0 + (v - y0) * (x1 - x0) / (y1 - y0)
    return crossings % 2 == 1


@pytest.mark.parametrize("category", range(len(CLASSES)), ids=CLASSES)
def test_masks_have_the_silhouette_of_the_class(category):
    obj = describe_scene(0, 0, SIZE, SIZE).objects[0]
    obj = dataclasses.replace(obj, category=category, centre=(50.3, 45.6), size=60.0, angle=0.5)
    mask = render_scene(Scene(SIZE, SIZE, (obj,), 0))[1][0]
    wrong = 0
    for row in range(SIZE):
        for column in range(SIZE):
            x, y = (column + 0.5 - 50.3) / 30, (row + 0.5 - 45.6) / 30
            u, v = np.cos(0.5) * x + np.sin(0.5) * y, np.cos(0.5) * y - np.sin(0.5) * x
            wrong += mask[row, column] != _inside(CLASSES[category], u, v)
    assert wrong <= 2  # Rounding, of pixels centred on the outline.


def test_edges_are_antialiased():
    obj = describe_scene(0, 0, SIZE, SIZE).objects[0]
    plain = dataclasses.replace(obj.texture, pattern="stripes", period=1000.0)
    obj = dataclasses.replace(obj, category=0, centre=(48.0, 48.0), size=40.0, texture=plain)
    scene = Scene(SIZE, SIZE, (obj,), 0)
    image, masks = render_scene(scene)
    # A pixel that the outline halves is between its neighbours inside and outside.
    columns = np.arange(SIZE) + 0.5
    distance = np.hypot(columns - 48, columns[:, None] - 48) - 20
    edge = np.abs(distance) < 0.3
    rows, cols = np.nonzero(edge)
    direction = np.stack([rows - 47.5, cols - 47.5]) / np.hypot(rows - 47.5, cols - 47.5)
    step = np.rint(1.5 * direction).astype(int)
    inner = image[rows - step[0], cols - step[1]].astype(float)
    outer = image[rows + step[0], cols + step[1]].astype(float)
    here = image[rows, cols].astype(float)
    contrast = np.abs(inner - outer).sum(axis=1)
    share = (np.abs(here - outer).sum(axis=1) / contrast)[contrast > 60]
    assert len(share) > 10 and 0.25 < np.median(share) < 0.75
    assert masks[0][distance < -0.5].all() and not masks[0][distance > 0.5].any()


def test_textures_move_with_the_object():
    """An object turned by a quarter and moved shows the pixels of the first, turned by a quarter."""
    texture = Texture("stripes", ((0.9, 0.2, 0.1), (0.1, 0.3, 0.9)), period=0.4, angle=0.3, seed=1)
    obj = SceneObject(category=0, centre=(40.0, 40.0), size=50.0, angle=0.2, texture=texture)
    moved = dataclasses.replace(obj, centre=(56.0, 48.0), angle=obj.angle + np.pi / 2)
    # The light stays with the world: compare colours, not brightness.
    first, second = (_hue(render_scene(Scene(SIZE, SIZE, (o,), 5))[0]) for o in (obj, moved))
    patch = first[25:55, 25:55]
    there = second[33:63, 41:71]
    expected = np.rot90(patch, k=-1)  # From x towards y is clockwise, as y points down.
    match = np.corrcoef(expected.ravel(), there.ravel())[0, 1]
    unturned = np.corrcoef(patch.ravel(), there.ravel())[0, 1]
    assert match > 0.9 and unturned < 0.6


def _hue(image):
    """Chromaticity, float (height, width, 3): free of brightness."""
    image = image.astype(float) + 1
    return image / image.sum(axis=-1, keepdims=True)


def test_camera_moves_the_view():
    scene = describe_scene(0, 2, SIZE, SIZE)
    image, masks = render_scene(scene)
    shifted, shifted_masks = render_scene(scene, camera=((1, 0, 10), (0, 1, -5)))
    difference = np.abs(shifted[5:, :-10].astype(int) - image[:-5, 10:])
    assert np.mean(difference) < 0.5  # float32 rounding only.
    np.testing.assert_array_equal(shifted_masks[:, 5:, :-10], masks[:, :-5, 10:])
    closer = render_scene(scene, camera=((0.5, 0, 24), (0, 0.5, 24)))[1]
    np.testing.assert_allclose(
        closer.sum(axis=(1, 2)), 4 * masks[:, 24:-24, 24:-24].sum(axis=(1, 2)), rtol=0.1, atol=40
    )


def test_texture_and_colour_do_not_tell_the_class(rendered):
    objects = [obj for scene, _, _ in rendered for obj in scene.objects]
    pairs = {(obj.category, obj.texture.pattern) for obj in objects}
    assert len(pairs) == len(CLASSES) * 4


def test_backgrounds_are_textured_everywhere(rendered):
    for scene, _, _ in rendered:
        image = render_scene(dataclasses.replace(scene, objects=()))[0].astype(float)
        blocks = image.reshape(4, SIZE // 4, 4, SIZE // 4, 3)
        assert blocks.std(axis=(1, 3)).mean(axis=-1).min() > 0.5
        assert image.std(axis=(0, 1)).mean() > 8
