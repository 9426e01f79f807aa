"""Cityscapes layout: detectron2's loaders, and the real evaluation of the labels themselves."""

import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.preparation import createTrainIdLabelImgs
from data_helpers import dicts_of
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.cityscapes import load_cityscapes_instances
from detectron2.structures import Instances
from detectron2.structures.masks import polygons_to_bitmask
from detectron2.utils import comm
from distributed_helpers import in_processes
from PIL import Image
from rendering import render_once

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.datasets.cityscapes import load_instances
from pixpro_d2.evaluation.cityscapes import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from pixpro_d2.utils.errors import UsageError

# Of detectron2's builtin data sets, which the addresses must equal but for the folders.
BUILTIN = {"cityscapes": "cityscapes_fine_sem_seg_val", "cityscapes_instance": "cityscapes_fine_instance_seg_val"}

scenes = render_once(train=1, test=3, size=96, layouts=["cityscapes"])


def _load(name):
    return dicts_of(name), MetadataCatalog.get(name)


@pytest.mark.parametrize("scheme", BUILTIN)
def test_metadata_equal_the_builtin_ones(scenes, scheme):
    dicts, metadata = _load(f"{scheme}:{scenes}@val")
    assert len(dicts) == 3
    ours, theirs = metadata.as_dict(), MetadataCatalog.get(BUILTIN[scheme]).as_dict()
    for key, part in (("image_dir", "leftImg8bit"), ("gt_dir", "gtFine")):
        assert ours.pop(key) == f"{scenes}/{part}/val"
        theirs.pop(key)
    ours.pop("name"), theirs.pop("name")
    assert ours == theirs


@pytest.mark.parametrize("scheme", BUILTIN)
def test_the_order_is_of_the_names_and_not_of_the_disk(scenes, scheme, monkeypatch):
    ensure_registered([name := f"{scheme}:{scenes}@val"])
    listed = os.listdir
    for step in (1, -1):
        monkeypatch.setattr(os, "listdir", lambda path, step=step: sorted(listed(path))[::step])
        names = [record["file_name"] for record in DatasetCatalog.get(name)]
        assert names == sorted(names) and len(names) == 3


def _evaluate_labels(scenes, folder):
    """The labels as predictions, each process one share: the files of all, the results, and the files left."""
    name = f"cityscapes:{scenes}@val"
    evaluator = CityscapesSemSegEvaluator(name, str(folder / "inference"))
    evaluator.reset()
    for record in _load(name)[0][comm.get_rank() :: comm.get_world_size()]:
        label = torch.from_numpy(np.array(Image.open(record["sem_seg_file_name"]))).long()
        prediction = torch.nn.functional.one_hot(label, 19).permute(2, 0, 1)
        evaluator.process([record], [{"sem_seg": prediction}])
    comm.synchronize()
    files = sorted(path.name for path in folder.rglob("*.png"))
    results = evaluator.evaluate()
    comm.synchronize()
    return files, results and results["sem_seg"], list((folder / "inference").iterdir())


PREDICTIONS = [f"scenes_{number:06}_000019_leftImg8bit_pred.png" for number in (1, 2, 3)]


def test_semantic_labels_themselves_evaluate_to_100(scenes, tmp_path):
    files, results, left = _evaluate_labels(scenes, tmp_path)
    assert results["IoU"] == pytest.approx(100) and results["IoU_sup"] == pytest.approx(100)
    assert files == PREDICTIONS and left == []


@pytest.mark.slow
def test_all_processes_write_predictions_to_the_shared_folder(scenes, tmp_path):
    first, second = in_processes(tmp_path / "meet", _evaluate_labels, scenes, tmp_path / "shared")
    assert first[0] == second[0] == PREDICTIONS and first[1]["IoU"] == pytest.approx(100)
    assert second[1] is None and first[2] == second[2] == []


def _instances(record, classes):
    """The objects in a record's instanceIds file, as detections; the file's ids are label * 1000 + number."""
    path = (
        record["file_name"].replace("leftImg8bit", "gtFine", 1).replace("_leftImg8bit.png", "_gtFine_instanceIds.png")
    )
    ids = np.array(Image.open(path)).astype(int)
    present = [i for i in np.unique(ids) if i >= 1000]
    found = Instances(ids.shape)
    found.pred_classes = torch.tensor([classes.index(id2label[i // 1000].name) for i in present])
    found.pred_masks = torch.from_numpy(np.stack([ids == i for i in present]))
    found.scores = torch.ones(len(present))
    return found


def test_instances_themselves_evaluate_to_100(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"cityscapes_instance:{scenes}@val"
    dicts, metadata = _load(name)
    evaluator = CityscapesInstanceEvaluator(name, str(tmp_path))
    evaluator.reset()
    for record in dicts:
        evaluator.process([record], [{"instances": _instances(record, metadata.thing_classes)}])
    assert evaluator.evaluate()["segm"] == {"AP": pytest.approx(100), "AP50": pytest.approx(100)}
    assert list(tmp_path.iterdir()) == []


def test_polygons_agree_with_the_instance_files(scenes):
    dicts, metadata = _load(f"cityscapes_instance:{scenes}@val")
    for record in dicts:
        truth = _instances(record, metadata.thing_classes)
        assert sorted(x["category_id"] for x in record["annotations"]) == sorted(truth.pred_classes.tolist())
        for annotation in record["annotations"]:
            polygons = [np.asarray(polygon) for polygon in annotation["segmentation"]]
            mask = torch.from_numpy(polygons_to_bitmask(polygons, record["height"], record["width"]))
            same = truth.pred_masks[truth.pred_classes == annotation["category_id"]]
            overlap = (same & mask).sum(dim=(1, 2)) / (same | mask).sum(dim=(1, 2))
            assert overlap.max() > 0.85


@pytest.fixture
def copy(scenes, tmp_path):
    return shutil.copytree(scenes, tmp_path / "copy")


def test_instances_are_detectron2s_and_no_worker_is_left(scenes):
    folders = [str(scenes / part / "val") for part in ("leftImg8bit", "gtFine")]
    before = set(multiprocessing.active_children())
    found = load_instances(*folders)
    assert set(multiprocessing.active_children()) <= before
    expected = sorted(load_cityscapes_instances(*folders), key=lambda image: image["file_name"])
    assert found == expected and any(image["annotations"] for image in found)


@pytest.mark.parametrize("suffix", ["polygons.json", "labelIds.png", "instanceIds.png", "labelTrainIds.png"])
def test_missing_labels_are_an_early_error(copy, suffix):
    path = next((copy / "gtFine" / "val").rglob(f"*000003_000019_gtFine_{suffix}"))
    path.unlink()
    with pytest.raises(UsageError, match="There is no label file") as caught:
        ensure_registered([f"cityscapes:{copy}@val"])
    assert str(path) in str(caught.value)
    command = f"CITYSCAPES_DATASET={copy} csCreateTrainIdLabelImgs"
    assert (command in str(caught.value)) == (suffix == "labelTrainIds.png")
    if suffix == "labelTrainIds.png":  # not needed for instances
        ensure_registered([f"cityscapes_instance:{copy}@val"])


def test_the_command_in_the_message_makes_the_files(copy, monkeypatch):
    made = {path: path.read_bytes() for path in (copy / "gtFine").rglob("*_labelTrainIds.png")}
    for path in made:
        path.unlink()
    monkeypatch.setenv("CITYSCAPES_DATASET", str(copy))
    createTrainIdLabelImgs.main()
    assert len(made) == 4 and all(path.read_bytes() == content for path, content in made.items())


def test_other_mistakes(copy):
    with pytest.raises(UsageError, match="there is no folder .*/leftImg8bit/test"):
        ensure_registered([f"cityscapes:{copy}@test"])
    (copy / "leftImg8bit" / "val" / "scenes" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"notes\.txt is not an image"):
        ensure_registered([f"cityscapes:{copy}@val"])
    shutil.rmtree(copy / "leftImg8bit" / "val" / "scenes")
    with pytest.raises(UsageError, match="no image <city>"):
        ensure_registered([f"cityscapes:{copy}@val"])


def test_numpy_is_as_before_after_an_evaluation(scenes, tmp_path):
    before = getattr(np, "in1d", None)
    _evaluate_labels(scenes, tmp_path)
    assert getattr(np, "in1d", None) is before
