"""Subsets of COCO annotation files: nested, seeded, complete."""

import json
import os
import random

import pytest

from pixpro_d2.data.datasets.label_subset import draw_images, write_subsets
from pixpro_d2.tools import label_subset
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def instances(tmp_path):
    content = {
        "info": {"year": 2017},
        "licenses": [],
        "categories": [{"id": 1, "name": "x"}, {"id": 5, "name": "y"}],
        "images": [{"id": 3 * i, "file_name": f"{i}.jpg", "width": 8, "height": 8} for i in range(200)],
        "annotations": [
            {"id": i, "image_id": 3 * (i % 150), "category_id": 1, "bbox": [0, 0, 4, 4]} for i in range(300)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path, content


def test_subsets_are_parts_of_the_file(instances, tmp_path):
    path, content = instances
    written = write_subsets(path, tmp_path / "deep" / "out", [1, 10, 2.5])
    assert [item[:2] for item in written] == [
        (tmp_path / "deep" / "out" / f"instances_{percent}pct.json", count)
        for percent, count in [("1", 2), ("10", 20), ("2.5", 5)]
    ]
    assert len(list((tmp_path / "deep" / "out").iterdir())) == 3
    for out, images, annotations in written:
        subset = json.loads(out.read_text())
        assert {key: subset[key] for key in ("info", "licenses", "categories")} == {
            key: content[key] for key in ("info", "licenses", "categories")
        }
        ids = {image["id"] for image in subset["images"]}
        assert len(ids) == images and all(image in content["images"] for image in subset["images"])
        assert subset["annotations"] == [x for x in content["annotations"] if x["image_id"] in ids]
        assert len(subset["annotations"]) == annotations


def test_another_seed_writes_other_files(instances, tmp_path):
    path, _ = instances
    files = [write_subsets(path, tmp_path / "out", [10], seed)[0][0] for seed in (0, 1)]
    assert [file.name for file in files] == ["instances_10pct.json", "instances_10pct_seed1.json"]
    assert files[0].read_text() != files[1].read_text()


def test_smaller_subsets_lie_within_larger_ones():
    sizes = [0.5, 1, 2, 5, 10, 50, 100]
    drawn = [draw_images(range(1000), percent, seed=3) for percent in sizes]
    assert [len(ids) for ids in drawn] == [5, 10, 20, 50, 100, 500, 1000]
    assert all(small < large for small, large in zip(drawn, drawn[1:]))


def test_only_ids_and_seed_decide():
    ids = list(range(0, 3000, 7))
    shuffled = random.Random(1).sample(ids, len(ids))
    assert draw_images(ids, 10, 0) == draw_images(shuffled, 10, 0)
    assert draw_images(ids, 10, 0) != draw_images(ids, 10, 1)
    assert set(ids[:43]) != draw_images(ids, 10, 0)  # at random, not the first ones


def test_at_least_one_image():
    assert len(draw_images([4, 9], 1, 0)) == 1


def test_ids_may_be_numbers_and_text():
    ids = [10, 9, "b", "a"]
    assert draw_images(ids, 100, 0) == set(ids) and draw_images(ids, 50, 0) == draw_images(ids[::-1], 50, 0)


@pytest.mark.parametrize(
    ("percents", "seed", "message"),
    [([0], 0, "percentage 0"), ([1, 101], 0, "percentage 101"), ([-1], 0, "percentage -1"), ([1], -2, "seed -2")],
)
def test_numbers_out_of_range(instances, tmp_path, percents, seed, message):
    with pytest.raises(UsageError, match=message):
        write_subsets(instances[0], tmp_path / "out", percents, seed)
    assert not (tmp_path / "out").exists()


UNLABELLED = (
    '{"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1}], "categories": [{"id": 1, "name": "x"}]}'
)
NO_ID = '{"images": [{"file_name": "a"}], "annotations": [], "categories": [{"id": 1, "name": "x"}]}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"images": [], "annotations": []}',
        '{"images": [{"id": 1}]}',
        NO_ID,
        UNLABELLED,
        "[" * 100_000,
    ],
)
def test_files_that_are_not_coco(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        write_subsets(path, tmp_path / "out", [1])
    assert str(caught.value).startswith(str(path))


def test_the_rest_has_all_other_images(instances, tmp_path):
    path, content = instances
    label_subset.main([str(path), str(tmp_path), "--percent", "20", "--rest"])
    parts = [json.loads((tmp_path / f"instances_20pct{end}.json").read_text()) for end in ("", "_rest")]
    assert [len(part["images"]) for part in parts] == [40, 160]
    for key in ("images", "annotations"):
        assert sorted(x["id"] for part in parts for x in part[key]) == sorted(x["id"] for x in content[key])
    for part in parts:
        assert {x["image_id"] for x in part["annotations"]} <= {x["id"] for x in part["images"]}
    with pytest.raises(UsageError, match="100 % of the 200 images of .*instances.json leave no rest"):
        write_subsets(path, tmp_path / "none", [20, 100], rest=True)
    assert not (tmp_path / "none").exists()


def test_a_failed_write_leaves_the_old_file(instances, tmp_path, monkeypatch):
    ((out, *_),) = write_subsets(instances[0], tmp_path, [1])
    before = out.read_text()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UsageError, match="instances_1pct_seed9.json cannot be written .disk full"):
        write_subsets(instances[0], tmp_path, [1], seed=9)
    assert out.read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"instances.json", "instances_1pct.json"}


def test_the_command(instances, tmp_path, capsys):
    label_subset.main([str(instances[0]), str(tmp_path / "out"), "--percent", "1", "10", "--seed", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/out/instances_1pct_seed4.json: 2 images, ")
    assert lines[1].startswith(f"{tmp_path}/out/instances_10pct_seed4.json: 20 images, ")
    with pytest.raises(SystemExit, match="error: .*none.json"):
        label_subset.main([str(tmp_path / "none.json"), str(tmp_path), "--percent", "1"])
