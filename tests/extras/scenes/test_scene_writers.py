"""What the writers of rendered scenes keep of the masks."""

import json

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw
from rendering import render_once

from pixpro_d2.extras.scenes.scene import CLASSES, Scene, SceneObject, Texture, describe_scene, render_scene
from pixpro_d2.extras.scenes.writers.cityscapes import LABELS, trace_outline

scenes = render_once(train=6, test=2, size=96, seed=5, layouts=["voc", "cityscapes", "classes"])


def _silhouette(category, centre, size=40.0, side=64):
    obj = SceneObject(category, centre, size, 0.3, Texture("noise", ((1, 1, 1), (0, 0, 0)), 1.0, 0.0, 0))
    return render_scene(Scene(side, side, (obj,), 0, clutter=False))[1][0]


@pytest.mark.parametrize("centre", [(32.0, 32.0), (2.0, 30.0), (63.5, 0.5)])
@pytest.mark.parametrize("name", CLASSES)
def test_an_outline_encloses_the_mask(name, centre):
    category = CLASSES.index(name)
    mask = _silhouette(category, centre)
    # Cityscapes counts a hole as a part of the object.
    filled = _silhouette(CLASSES.index("disk"), centre) if name == "ring" else mask
    painted = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(painted).polygon([tuple(point) for point in trace_outline(mask, centre).tolist()], fill=1)
    painted = np.asarray(painted)
    assert (painted & filled).sum() / (painted | filled).sum() > 0.95


def test_a_square_has_its_corners():
    mask = np.zeros((12, 14), dtype=bool)
    mask[2:9, 3:10] = True  # rows 2 to 8, columns 3 to 9
    points = trace_outline(mask, (6.5, 5.5))
    assert {(3, 2), (9, 2), (3, 8), (9, 8)} <= {tuple(point) for point in points.tolist()}
    assert points.min(axis=0).tolist() == [3, 2] and points.max(axis=0).tolist() == [9, 8]


def test_semantic_ids_of_voc(scenes):
    for number in range(8):
        scene = describe_scene(5, number, 96, 96)
        masks = render_scene(scene)[1]
        with Image.open(scenes / "SegmentationClass" / f"{number:06d}.png") as image:
            assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]  # VOC paints class 1 dark red
            ids = np.asarray(image)
        expected = np.zeros_like(ids)
        for obj, mask in zip(scene.objects, masks, strict=True):
            expected[mask] = obj.category + 1
        known = ids != 255
        np.testing.assert_array_equal(ids[known], expected[known])
        # Neighbours of different objects are outlines, and outlines have such a neighbour.
        front = np.where(masks.any(axis=0), masks.argmax(axis=0), -1)
        outline = np.zeros_like(known)
        outline[1:] |= front[1:] != front[:-1]
        outline[:-1] |= front[1:] != front[:-1]
        outline[:, 1:] |= front[:, 1:] != front[:, :-1]
        outline[:, :-1] |= front[:, 1:] != front[:, :-1]
        np.testing.assert_array_equal(~known, outline)
    assert (scenes / "classes.txt").read_text().split() == ["background", *CLASSES]
    assert (scenes / "ImageSets/Segmentation/test.txt").read_text() == "000006\n000007\n"


def test_cityscapes_files(scenes):
    images = sorted(path.name for path in (scenes / "leftImg8bit" / "val" / "scenes").iterdir())
    assert images == [f"scenes_{number:06d}_000019_leftImg8bit.png" for number in (6, 7)]
    for number, split in [(0, "train"), (7, "val")]:
        scene = describe_scene(5, number, 96, 96)
        image, masks = render_scene(scene)
        stem = f"scenes_{number:06d}_000019"
        stored = np.asarray(Image.open(scenes / "leftImg8bit" / split / "scenes" / f"{stem}_leftImg8bit.png"))
        np.testing.assert_array_equal(stored, image)
        label = scenes / "gtFine" / split / "scenes" / f"{stem}_gtFine_"
        content = json.loads(label.with_name(f"{label.name}polygons.json").read_text())
        names = [LABELS[obj.category] for obj in scene.objects]
        assert [obj["label"] for obj in content["objects"]] == ["road", *names]
        assert (content["imgHeight"], content["imgWidth"]) == (96, 96)
        ids, train_ids, instances = (
            np.asarray(Image.open(label.with_name(f"{label.name}{kind}.png"))).astype(int)
            for kind in ("labelIds", "labelTrainIds", "instanceIds")
        )
        for obj, mask in zip(scene.objects, masks, strict=True):
            expected = name2label[LABELS[obj.category]]
            assert (ids[mask] == expected.id).mean() > 0.9
            assert (train_ids[mask] == expected.trainId).mean() > 0.9
        shown = [name for name in names if name2label[name].id in np.unique(ids)]
        assert len(np.unique(instances)) == 1 + len(shown)  # the road, and each object by itself
        assert (instances[ids == 7] == 7).all()


def test_labels_are_things_of_cityscapes():
    assert len(LABELS) == len(CLASSES) == len(set(LABELS))
    assert all(name2label[name].hasInstances and name2label[name].trainId != 255 for name in LABELS)


def test_crops_show_whole_objects(scenes):
    crops = sorted((scenes / "train").rglob("*.jpg")) + sorted((scenes / "test").rglob("*.jpg"))
    assert len(crops) >= 4
    for split in ("train", "test"):
        assert sorted(path.name for path in (scenes / split).iterdir()) == sorted(CLASSES)
    for path in crops:
        number, index = map(int, path.stem.split("_"))
        scene = describe_scene(5, number, 96, 96)
        image, masks = render_scene(scene)
        obj = scene.objects[index]
        assert path.parent.name == CLASSES[obj.category]
        crop = np.asarray(Image.open(path)).astype(int)
        assert abs(crop.shape[0] - obj.size) < 2 and abs(crop.shape[1] - obj.size) < 2
        x, y = (int(np.floor(c - obj.size / 2)) for c in obj.centre)
        part = np.s_[y : y + crop.shape[0], x : x + crop.shape[1]]
        assert masks[index].sum() == masks[index][part].sum()
        assert np.abs(crop - image[part]).mean() < 20  # what JPEG loses
