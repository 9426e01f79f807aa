"""Pictures as a page holds them."""

import base64
import io

import numpy as np
from PIL import Image

from pixpro_d2.extras.report import pictures
from pixpro_d2.extras.report.pictures import COPY_WIDTH, embed, evenly, find_pictures


def noise(path, width=1500, height=300):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def decoded(address):
    kind, _, data = address.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_pictures_are_found_by_name_and_iteration(tmp_path):
    for name in ("b_0000019.png", "a_b_0000039.png", "a_b_0000019.png", "a_b_12345678.png", "basis.npz", "x.png"):
        (tmp_path / name).touch()
    found = [(picture.name, picture.iteration) for picture in find_pictures(tmp_path)]
    assert found == [("a_b", 19), ("a_b", 39), ("a_b", 12345678), ("b", 19)]
    assert find_pictures(tmp_path / "missing") == []


def test_few_pictures_stay_as_they_are(tmp_path):
    noise(tmp_path / "a_0000019.png")
    (tmp_path / "a_0000039.png").write_bytes(b"half a pict")
    ((picture, address, size),), note = embed(find_pictures(tmp_path))
    assert base64.b64decode(address.removeprefix("data:image/png;base64,")) == picture.path.read_bytes()
    assert size == (1500, 300) and note == ""


def test_large_pictures_become_small_copies(tmp_path):
    for i in range(3):
        noise(tmp_path / f"a_{i:07d}.png")
    found = find_pictures(tmp_path)
    copies, note = embed(found, sum(picture.path.stat().st_size for picture in found) - 1)
    assert note.startswith("Pictures are smaller copies") and "shown" not in note
    kind, image = decoded(copies[0][1])
    assert kind == "data:image/webp" and image.size == (COPY_WIDTH, 200) and len(copies) == 3


def test_too_many_pictures_are_thinned(tmp_path):
    for name in "ab":
        for i in range(10):
            noise(tmp_path / f"{name}_{i:07d}.png", 100, 100)
    found = find_pictures(tmp_path)
    (tmp_path / "a_0000003.png").write_bytes(b"no picture, and the largest file" * 10_000)
    copies, _ = embed(found, sum(picture.path.stat().st_size for picture in found) - 1)
    assert len(copies) == 19
    size = 20 / 19 * sum(len(base64.b64decode(address.partition(",")[2])) for _, address, _ in copies)
    few, note = embed(found, int(size * 0.55))
    assert [picture.iteration for picture, _, _ in few] == [0, 2, 4, 7, 9] * 2
    assert note.endswith("; 10 of 20 are shown.")


def test_too_many_names_leave_the_last_picture_of_the_first_names(tmp_path):
    for name in "abcdef":
        for i in range(2):
            noise(tmp_path / f"{name}_{i:07d}.png", 100, 100)
    found = find_pictures(tmp_path)
    copies, _ = embed(found, sum(picture.path.stat().st_size for picture in found) - 1)
    each = len(base64.b64decode(copies[0][1].partition(",")[2]))
    for budget, expected in ((7.5, "abcdef"), (4.5, "abcd")):
        few, note = embed(found, int(budget * each))
        assert [(picture.name, picture.iteration) for picture, _, _ in few] == [(name, 1) for name in expected]
        assert note.endswith(f"; {len(expected)} of 12 are shown.")


def test_evenly():
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(10), 0) == [0, 9] and evenly([5], 0) == [5] and evenly(range(3), 5) == [0, 1, 2]


def test_only_copies_that_are_kept_are_made(tmp_path, monkeypatch):
    for i in range(40):
        noise(tmp_path / f"a_{i:07d}.png", 100, 100)
    made = []
    monkeypatch.setattr(pictures, "_small_copy", lambda path, image, make=pictures._small_copy: (
        made.append(path.name), make(path, image))[1])  # fmt: skip
    few, _ = embed(find_pictures(tmp_path), 40_000)
    assert len(few) < 8 and len(made) == len(few) + 1
