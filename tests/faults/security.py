"""Files that somebody else has made: none may run code, write elsewhere or exhaust the machine."""

import os
import pickle
import stat
import time
import zipfile
from pathlib import Path

import cli
import torch

from .disk import LATEST, falls_back
from .images import SHORT, trains, zipped
from .registry import NOTHING, fault


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def refuses_weights(runs, write, suffix):
    canary, path = runs.new("canary"), runs.new(f"weights{suffix}")
    write({"model": {"weight": Malicious(canary)}}, path)
    error = runs.train(*runs.pretraining(), "MODEL.WEIGHTS", path, "OUTPUT_DIR", runs.new()).error()
    assert f"{path} was refused: it asks for" in error and "mkdir" in error and not canary.exists(), error
    return "refused in one sentence that names the function; not run", NOTHING


@fault("malicious weights of torch.save", "a .pth whose pickle calls os.mkdir, as MODEL.WEIGHTS", quick=True)
def weights_pth(runs):
    return refuses_weights(runs, torch.save, ".pth")


@fault("malicious weights of the format before 2020", "the same in torch.save's legacy format", quick=True)
def weights_legacy(runs):
    def write(content, path):
        torch.save(content, path, _use_new_zipfile_serialization=False)

    return refuses_weights(runs, write, ".pth")


@fault("malicious weights of detectron2's model zoo format", "a .pkl whose pickle calls os.mkdir", quick=True)
def weights_pkl(runs):
    return refuses_weights(runs, lambda content, path: path.write_bytes(pickle.dumps(content)), ".pkl")


@fault("malicious checkpoint at resume", "the last checkpoint replaced by one that calls os.mkdir", quick=True)
def checkpoint(runs):
    canary = runs.new("canary")
    result = falls_back(runs, lambda path: torch.save({"model": {}, "trainer": Malicious(canary)}, path))
    assert not canary.exists()
    return f"{LATEST} refused, not run; {result[0]}", result[1]


@fault("malicious config", "a YAML file with !!python/object/apply:os.mkdir", quick=True)
def config(runs):
    canary, path = runs.new("canary"), runs.new("config.yaml")
    path.write_text(f"SEED: !!python/object/apply:os.mkdir ['{canary}']\n")
    error = runs.train("--config-file", path).error()
    assert str(path) in error and "os.mkdir" in error and not canary.exists(), error
    return "refused in one sentence; not run", NOTHING


@fault("folder named like a command", "images in a folder `$(mkdir canary); `", quick=True)
def shell(runs):
    folder, _ = runs.images()
    evil = folder.with_name("$(mkdir canary); mkdir canary #")
    folder.rename(evil)
    trains(runs, [*runs.pretraining(evil), *SHORT], runs.new(), skipped=0)
    assert not any(Path(place, "canary").exists() for place in (".", cli.ROOT, evil.parent))
    return "a name like any other: no shell ever sees it", NOTHING


@fault("image that is a program", "PostScript named .jpg, and a Ghostscript that leaves a trace", quick=True)
def postscript(runs):
    folder, files = runs.images()
    canary, tools = runs.new("canary"), runs.new("tools")
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\nmkdir -p '{canary}'\n")
    (tools / "gs").chmod(stat.S_IRWXU)
    files[0].write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    env = {"PATH": f"{tools}:{os.environ['PATH']}"}  # a process of its own: Pillow looks for Ghostscript once
    trains(runs, [*runs.pretraining(folder), *SHORT], runs.new(), skipped=1, env=env)
    assert not canary.exists()
    return "no program is started; the file is skipped", "1 of 14 images"


@fault("zip with a path that leads out", "a member ../../out.jpg, listed for training")
def traversal(runs):
    def add(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.write(runs.scenes / "JPEGImages" / "000000.jpg", "../../out.jpg")
        with open(path.with_name("train_map.txt"), "a") as file:
            file.write("../../out.jpg\t0\n")

    words, env = zipped(runs, add)
    trains(runs, [*words, *SHORT], runs.new(), skipped=0, env=env)
    assert not any(runs.folder.rglob("out.jpg")) and not (runs.folder.parent / "out.jpg").exists()
    return "read in memory; nothing is ever unpacked to disk", NOTHING


def refuses_annotation(runs, document):
    """The error of a detector's training on a data set with one annotation; ``document`` makes it of its folder."""
    folder = runs.new("voc")
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(document(folder))
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    data = ["DATASETS.TRAIN", f"('voc:{folder}@train',)"]
    error = runs.train(*runs.detection(), *data, "OUTPUT_DIR", runs.new()).error()
    assert "a.xml" in error, error
    return error


@fault("entity bomb in an annotation", "a VOC XML whose entities expand to 3 GB", quick=True)
def entities(runs):
    entity = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    began = time.monotonic()
    refuses_annotation(runs, lambda folder: f"<!DOCTYPE b [{entity}]><annotation>&a9;</annotation>")
    assert time.monotonic() - began < 20
    return "refused in one sentence that names the file", NOTHING


@fault("entity that reads another file", "a VOC XML with an external entity file:///etc/hostname", quick=True)
def external(runs):
    def document(folder):
        (folder / "secret").write_text("secret")
        entity = f'<!ENTITY s SYSTEM "file://{folder}/secret">'
        return f"<!DOCTYPE b [{entity}]><annotation><folder>&s;</folder></annotation>"

    error = refuses_annotation(runs, document)
    assert "undefined entity" in error, error
    return "refused in one sentence that names the file; the other file is not read", NOTHING
