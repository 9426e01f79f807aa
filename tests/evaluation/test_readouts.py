"""All read-outs of a small model, and norms that are adapted for the time being."""

import copy
import math
import shutil

import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from PIL import Image
from pretext_helpers import LEVELS, build, config

from pixpro_d2.evaluation import dense_features
from pixpro_d2.evaluation import readouts as readouts_module
from pixpro_d2.evaluation.adapted_norms import adapted_norms
from pixpro_d2.evaluation.pretext import held_out_images
from pixpro_d2.evaluation.readouts import _image_vectors, linear_probe, readouts
from pixpro_d2.utils.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight images of which the left half is black and has class 0, the right half white with class 1."""
    root = tmp_path_factory.mktemp("labelled")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    classes = np.zeros((64, 64), dtype=np.uint8)
    classes[:, 32:] = 1
    for i in range(8):
        labels = classes if i % 4 < 2 else 1 - classes
        Image.fromarray(labels * 255).convert("RGB").save(root / "images" / f"{i}.png")
        Image.fromarray(labels).save(root / "labels" / f"{i}.png")
    return root


def test_readouts(folder):
    cfg = config(folder / "images")
    model = build(cfg)
    before = copy.deepcopy(model.state_dict())
    found = readouts(model, cfg, held_out_images(cfg), f"semseg:{folder / 'images'}@{folder / 'labels'}")
    names = ("linear_probe", "height_r2", "effective_rank_projected", "match_accuracy")
    assert all(f"{name}/{level}" in found for name in names for level in LEVELS)
    assert found["linear_probe/p3"] > 0.9  # brightness tells the class
    assert model.training and all(x.equal(before[name]) for name, x in model.state_dict().items())


def test_image_classes(tmp_path):
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (40, 40), (value, value, i)).save(tmp_path / name / f"{i}.png")
    model = build(config(tmp_path))
    assert linear_probe(model, f"classes:{tmp_path}", 64, ()) == dict.fromkeys(LEVELS, 1.0)


def test_norms_are_adapted_to_batches_of_nearly_equal_sizes(folder, monkeypatch):
    """All batches have the same weight, so a batch of one image would count as much as 32."""
    monkeypatch.setattr(dense_features, "BATCH", 7)
    model = build(config(folder / "images"))
    sizes, inference = [], model.inference
    monkeypatch.setattr(model, "inference", lambda images: sizes.append(len(images)) or inference(images))
    linear_probe(model, f"semseg:{folder / 'images'}@{folder / 'labels'}", 64, ())
    assert sizes == [4, 4] * 2


def test_many_classes_are_halved_one_by_one(tmp_path, monkeypatch):
    """Twelve grey levels of three images each: every third image of the list would be of another class."""
    monkeypatch.setattr(readouts_module, "MAX_LABELLED_IMAGES", 12)
    for number in range(12):
        (tmp_path / f"{number:02d}").mkdir()
        for i in range(3):
            Image.new("RGB", (40, 40), (20 * number, 20 * number, i)).save(tmp_path / f"{number:02d}" / f"{i}.png")
    name, model = f"classes:{tmp_path}", build(config(tmp_path))
    assert linear_probe(model, name, 64, ()) == dict.fromkeys(LEVELS, 1.0)
    monkeypatch.setattr(readouts_module, "_some_of_each_class", lambda dicts: dicts[::3])  # none of a class to test
    with logged("pixpro_d2.evaluation.readouts") as messages:
        assert all(map(math.isnan, linear_probe(model, name, 64, ()).values()))
    assert len(messages) == 1 and "linear_probe is NaN at p3, p4, because no image" in messages[0]


def test_a_half_without_a_labelled_pixel(folder, tmp_path):
    """The images of the test are unlabelled."""
    shutil.copytree(folder / "labels", tmp_path / "labels")
    for i in (1, 3, 5, 7):
        Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(tmp_path / "labels" / f"{i}.png")
    (tmp_path / "labels" / "classes.txt").write_text("dark\nlight\n")
    with logged("pixpro_d2.evaluation.readouts") as messages:
        found = linear_probe(
            build(config(folder / "images")), f"semseg:{folder / 'images'}@{tmp_path / 'labels'}", 64, ()
        )
    assert all(map(math.isnan, found.values())) and "label more images of data set" in messages[0]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([9, 1], "a0 a1 a3 a4 a6 a7 b0"), ([3, 2, 1, 5, 2], "a0 a1 a2 b0 b1 d0 d1 d2 d3"), ([2] * 6, "a0 a1 c0 c1 e0 e1")],
)
def test_classes_share_the_images(monkeypatch, counts, expected):
    """At most twelve images, four or more of a class if it has them."""
    monkeypatch.setattr(readouts_module, "MAX_LABELLED_IMAGES", 12)
    dicts = [{"category_id": k, "name": f"{'abcdef'[k]}{i}"} for k, n in enumerate(counts) for i in range(n)]
    assert " ".join(image["name"] for image in readouts_module._some_of_each_class(dicts)) == expected


def test_pixels_without_a_class_have_no_vectors():
    """255 is the class of a box, -1 stands for no class."""
    vectors, labels = _image_vectors(torch.tensor([[[5.0, 6], [7, 8]]]), np.array([[255, -1], [0, 301]]), True)
    assert vectors.tolist() == [[5], [7], [8]] and labels.tolist() == [255, 0, 301]


def test_unknown_classes_are_refused(folder, tmp_path):
    """Labels of 0 and 1, but only one name."""
    shutil.copytree(folder / "labels", tmp_path / "labels")
    (tmp_path / "labels" / "classes.txt").write_text("dark\n")
    model = build(config(folder / "images"))
    with pytest.raises(UsageError, match=r"labels of .*0.png have the class 1, but data set .* has 1 classes"):
        linear_probe(model, f"semseg:{folder / 'images'}@{tmp_path / 'labels'}", 64, ())


def test_data_without_labels_is_refused(tmp_path):
    write_images(tmp_path / "images", 2)
    with pytest.raises(UsageError, match="has 0 labelled images"):
        linear_probe(build(config(tmp_path / "images")), f"images:{tmp_path / 'images'}", 64, ())


def test_norms_have_the_statistics_of_all_batches():
    norm = torch.nn.BatchNorm2d(1).train()
    batches = [torch.tensor([1.0, 3]).view(2, 1, 1, 1), torch.tensor([5.0, 11]).view(2, 1, 1, 1)]
    with adapted_norms(norm, lambda: [norm(x) for x in batches]):
        assert norm.running_mean.item() == 5 and norm.running_var.item() == 10  # (2 + 8) / 2, (2 + 18) / 2
    assert norm.running_mean.item() == 0 and norm.running_var.item() == 1 and norm.momentum == 0.1 and norm.training


def test_a_single_value_has_no_statistics():
    norm = torch.nn.BatchNorm2d(1)
    with torch.no_grad():
        norm.running_mean.fill_(7)
    single, several = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3]).view(2, 1, 1, 1)
    with adapted_norms(norm, lambda: norm(single)):
        assert norm.running_mean.item() == 7
    with adapted_norms(norm, lambda: [norm(several), norm(single)]):
        assert norm.running_mean.item() == 2
    assert norm.running_mean.item() == 7 and not norm._forward_pre_hooks
