"""Files from strangers: whatever the format, nothing that a file asks for is run, fetched, unpacked or written.

Each test first makes sure of its own trap: that it snaps where somebody loads the file carelessly.
"""

import json
import pickle
import socket
import struct
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from data_helpers import noise, write_images
from detectron2.data import DatasetCatalog
from flow_helpers import Payload, flow, write_native
from PIL import Image

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.data.datasets.image_index import index_file, read_index
from pixpro_d2.data.datasets.imagenet import load_imagenet
from pixpro_d2.data.datasets.video import INDEX, count_frames
from pixpro_d2.data.datasets.voc import read_annotation
from pixpro_d2.data.downstream.build import build_train_loader
from pixpro_d2.data.io.reader import read_bytes, read_image
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.evaluation.build import check_test_set
from pixpro_d2.flow_files import FlowFiles
from pixpro_d2.utils.archives import join_member
from pixpro_d2.utils.errors import UsageError


def _save_zip(data, path):
    torch.save(data, path)


def _save_legacy(data, path):
    torch.save(data, path, _use_new_zipfile_serialization=False)


def _save_pickle(data, path):
    Path(path).write_bytes(pickle.dumps(data, protocol=2))


def _load_torch(path):
    torch.load(path, weights_only=False)


def _load_pickle(path):
    pickle.loads(Path(path).read_bytes())


def _start_from(path):
    initialize(torch.nn.Linear(1, 1), str(path))


def _resume_from(path):
    (path.parent / "last_checkpoint").write_text(path.name)
    PixProCheckpointer(torch.nn.Linear(1, 1), str(path.parent)).resume()


@pytest.mark.parametrize("use", [lambda path: read_checkpoint(str(path)), _start_from, _resume_from])
@pytest.mark.parametrize(
    ("name", "save", "load_carelessly"),
    [
        ("model.pth", _save_zip, _load_torch),
        ("model.pth", _save_legacy, _load_torch),
        ("model.pth", _save_pickle, _load_pickle),
        ("model.pkl", _save_pickle, _load_pickle),
    ],
    ids=["zip", "legacy", "pickle named pth", "pickle"],
)
def test_checkpoints(tmp_path, name, save, load_carelessly, use):
    path, trap = tmp_path / name, tmp_path / "trap"
    save({"model": {"weight": Payload(trap)}, "iteration": 3}, path)
    with pytest.raises(UsageError, match=rf"{name}"):
        use(path)
    assert not trap.exists()
    load_carelessly(path)
    assert trap.exists()


@pytest.mark.parametrize("length", [8, 2**40, 2**63], ids=["pickle", "huge header", "overflow"])
def test_safetensors(tmp_path, length):
    path, trap = tmp_path / "model.safetensors", tmp_path / "trap"
    header = pickle.dumps(Payload(trap))
    path.write_bytes(struct.pack("<Q", len(header) if length == 8 else length) + header)
    with pytest.raises(UsageError, match=r"model\.safetensors is not a readable checkpoint"):
        read_checkpoint(str(path))
    assert not trap.exists()


def test_flow_of_this_project(tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "flow/a/forward.npy"
    write_native(tmp_path / "flow", "a", *flow())
    np.save(path, np.array([Payload(trap)]), allow_pickle=True)
    with pytest.raises(UsageError, match=r"a/forward\.npy is damaged"):
        FlowFiles(tmp_path / "flow").read("a", 0, 1)
    assert not trap.exists()
    np.load(path, allow_pickle=True)
    assert trap.exists()


@pytest.mark.parametrize("save", [_save_zip, _save_legacy, _save_pickle])
def test_flow_of_the_reference(tmp_path, save):
    trap, path = tmp_path / "trap", tmp_path / "flow/forward/a.pth"
    for folder in ("forward", "backward"):
        (tmp_path / "flow" / folder).mkdir(parents=True)
        save(Payload(trap), tmp_path / f"flow/{folder}/a.pth")
    with pytest.raises(UsageError, match=r"forward/a\.pth was not read"):
        FlowFiles(tmp_path / "flow").read("a", 0, 1)
    assert not trap.exists()
    (_load_pickle if save is _save_pickle else _load_torch)(path)
    assert trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        lambda trap: pickle.dumps(Payload(trap)),
        lambda trap: json.dumps({"version": 1, "folders": [str(trap)]}).encode(),
        lambda trap: json.dumps({"version": 1, "folders": {"film": ["x", {"__reduce__": "os.mkdir"}]}}).encode(),
        lambda trap: b"[" * 100_000,
    ],
    ids=["pickle", "list", "values", "deep"],
)
def test_the_index_of_videos_is_made_anew(tmp_path, content):
    trap = tmp_path / "trap"
    write_images(tmp_path / "videos" / "film", 3)
    (tmp_path / "videos" / INDEX).write_bytes(content(trap))
    assert count_frames(str(tmp_path / "videos")) == {"film": 3}
    assert not trap.exists()


def test_the_index_of_images_is_made_anew(tmp_path):
    trap, root = tmp_path / "trap", tmp_path / "images"
    write_images(root, 3)
    arrays = {key: np.array([Payload(trap)]) for key in ("version", "names", "ends", "folders", "folder_ends")}
    np.savez(index_file(str(root)), **arrays)
    assert read_index(index_file(str(root)), str(root)) is None
    assert not trap.exists()
    with np.load(index_file(str(root)), allow_pickle=True) as careless:
        careless["version"]
    assert trap.exists()


@pytest.mark.parametrize("where", ["the file", "its base"])
def test_configs(tmp_path, where):
    trap, path = tmp_path / "trap", tmp_path / "config.yaml"
    text = f"VERSION: 2\nOUTPUT_DIR: !!python/object/apply:os.mkdir ['{trap}']\n"
    if where == "the file":
        path.write_text(text)
    else:
        (tmp_path / "base.yaml").write_text(text)
        path.write_text("_BASE_: base.yaml\n")
    with pytest.raises(UsageError, match=r"config\.yaml.*python/object/apply") as caught:
        load_config(str(path), [])
    assert "\n" not in str(caught.value)
    assert not trap.exists()
    yaml.unsafe_load(text)
    assert trap.exists()


def test_options_of_the_command_line_are_values(tmp_path):
    trap = tmp_path / "trap"
    code = f"__import__('os').mkdir('{trap}')"
    assert code == load_config("", ["OUTPUT_DIR", code]).OUTPUT_DIR
    with pytest.raises(UsageError):
        load_config("", ["SOLVER.MAX_ITER", code])
    assert not trap.exists()


def test_proposals_which_detectron2_pickles(tmp_path):
    trap = tmp_path / "trap"
    write_images(tmp_path / "images", 4)
    _save_pickle({"ids": [Payload(trap)], "boxes": [], "objectness_logits": [], "bbox_mode": 0}, tmp_path / "p.pkl")
    name = f"proposals {tmp_path}"
    record = {"file_name": str(tmp_path / "images/000.png"), "image_id": 0, "height": 12, "width": 16}
    DatasetCatalog.register(name, lambda: [{**record, "annotations": []}])
    opts = ("MODEL.LOAD_PROPOSALS", True, "DATASETS.PROPOSAL_FILES_TRAIN", (str(tmp_path / "p.pkl"),))
    with pytest.raises(UsageError, match=r"MODEL\.LOAD_PROPOSALS"):
        build_train_loader(configs.tiny("DATASETS.TRAIN", (name,), *opts, config="voc/faster_rcnn_R_18_FPN_small.yaml"))
    assert not trap.exists()
    _load_pickle(tmp_path / "p.pkl")
    assert trap.exists()


@pytest.fixture
def evil_zip(tmp_path):
    """A zip file whose members' names lead out of any folder that they would be unpacked in; and these names."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    Image.fromarray(noise(0, 6, 5)).save(tmp_path / "picture.png")
    names = ["../outside.png", "../../outside.png", f"{tmp_path}/absolute.png", "a/../../up.png", "..\\back.png"]
    with zipfile.ZipFile(folder / "train.zip", "w") as file:
        for name in names:
            file.writestr(name, (tmp_path / "picture.png").read_bytes())
    (folder / "train_map.txt").write_text("".join(f"{name}\t0\n" for name in names))
    (tmp_path / "picture.png").unlink()
    return folder, names


def test_members_of_a_zip_file_stay_in_it(tmp_path, evil_zip, monkeypatch):
    folder, names = evil_zip
    monkeypatch.chdir(folder)
    before = sorted(path for path in tmp_path.rglob("*"))
    dicts, _ = load_imagenet(str(folder), "train")
    assert len(dicts) == len(names)
    for record in dicts:  # each is read out of the archive
        np.testing.assert_array_equal(np.asarray(read_image(record["file_name"])), noise(0, 6, 5))
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_names_of_zip_members_do_not_lead_to_other_files(tmp_path, evil_zip):
    folder, _ = evil_zip
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for name in ("../../secret.txt", "../secret.txt", str(secret), "/../secret.txt"):
        with pytest.raises(KeyError):
            read_bytes(join_member(str(folder / "train.zip"), name))


def _annotation(prologue="", name="disk"):
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    return (
        f"<?xml version='1.0'?>{prologue}<annotation><size><width>48</width><height>48</height></size><object>"
        f"<name>{name}</name><pose>x</pose><truncated>0</truncated><difficult>0</difficult>{box}</object></annotation>"
    )


def _laughs():
    entities = ["<!ENTITY l0 'lollollollol'>"]
    entities += [f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 13)]
    return _annotation(f"<!DOCTYPE x [{''.join(entities)}]>", "&l12;")


def _quadratic():
    return _annotation(f"<!DOCTYPE x [<!ENTITY l '{'x' * 100_000}'>]>", "&l;" * 100_000)


def _external(path):
    return _annotation(f"<!DOCTYPE x [<!ENTITY l SYSTEM 'file://{path}'>]>", "&l;")


def _external_parameter(path):
    return _annotation(f"<!DOCTYPE x [<!ENTITY % l SYSTEM 'file://{path}'> %l;]>", "&secret;")


@pytest.mark.parametrize("kind", ["laughs", "quadratic", "external", "parameter"])
def test_entities_in_xml(tmp_path, kind):
    secret = tmp_path / "secret.txt"
    secret.write_text("<!ENTITY secret 'password'>" if kind == "parameter" else "password")
    text = {
        "laughs": _laughs,
        "quadratic": _quadratic,
        "external": lambda: _external(secret),
        "parameter": lambda: _external_parameter(secret),
    }[kind]()
    root = tmp_path / "voc"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    path = root / "Annotations/a.xml"
    path.write_text(_annotation())
    name = f"voc:{root}@train"
    ensure_registered([name])  # which reads the classes
    path.write_text(text)
    begin = time.monotonic()
    with pytest.raises(UsageError, match=r"a\.xml is not a usable Pascal VOC annotation: \S") as caught:
        read_annotation(str(path))
    with pytest.raises(UsageError, match=r"a\.xml is not a usable Pascal VOC annotation: \S") as also:
        check_test_set(name, load_dicts(name), masks=False)
    assert time.monotonic() - begin < 5
    assert "password" not in str(caught.value) + str(also.value)


def test_entities_are_otherwise_read():
    # So that what is refused above is refused for what it does.
    root = ElementTree.fromstring(_annotation("<!DOCTYPE x [<!ENTITY l 'disk'>]>", "&l;"))
    assert root.find("object/name").text == "disk"


def test_xml_fetches_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        (tmp_path / "a.xml").write_text(_annotation(f"<!DOCTYPE x SYSTEM 'http://127.0.0.1:{port}/x.dtd'>"))
        assert read_annotation(str(tmp_path / "a.xml"))[2][0][0] == "disk"
        with pytest.raises(TimeoutError):
            server.accept()
