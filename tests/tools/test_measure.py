"""The measure of dense features, as a user runs it."""

import json
from pathlib import Path

import pytest
import torch
from archive_helpers import write_zip
from data_helpers import logged, write_images
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.tools import measure

CONFIG = ["--config-file", str(configs.CONFIGS / "pretrain/quickstart.yaml")]
TINY = list(map(str, configs.TINY))


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 3, size=(40, 40))
    return str(tmp_path / "images")


def run(capsys, *args):
    measure.main([*CONFIG, *args])
    return capsys.readouterr().out


def test_a_data_set_its_folder_and_an_archive_of_it_are_the_same(images, capsys):
    expected = run(capsys, "--input", f"images:{images}", *TINY)
    assert run(capsys, "--input", images, *TINY) == expected
    assert run(capsys, "--input", str(write_zip(f"{images}.zip", Path(images))), *TINY) == expected


def test_the_table_and_the_json_agree_and_repeat(images, capsys):
    text = run(capsys, "--input", images, *TINY)
    values = json.loads(run(capsys, "--input", images, "--json", *TINY))
    assert values == json.loads(run(capsys, "--input", images, "--json", *TINY)) and list(values) == ["weights"]
    values = values["weights"]
    for name, row in zip(values, text.splitlines()[2:]):
        assert row.split() == [name, "nan" if values[name] is None else f"{values[name]:.3f}"]
    assert {f"height_r2/p{i}" for i in (3, 4, 5, 6)} < set(values) and 0 <= values["match_accuracy/p3"] <= 1
    assert values["healthy_std/p3"] == pytest.approx(32**-0.5)


def test_the_same_view_twice_matches_itself(images, capsys):
    """Whole images without colour changes: the views differ by a flip at most."""
    opts = ["INPUT.PIXPRO.AUG", "none", "INPUT.PIXPRO.MIN_SCALE", "1.0", "MODEL.PIXPRO.POS_RATIO", "0.5"]
    for seed, mirrored in ((6, False), (1, True)):  # seed 6 mirrors neither view, seed 1 one of them
        args = ["--input", images, "--count", "1", "--json", "--seed", seed, *TINY, *opts]
        values = json.loads(run(capsys, *map(str, args)))["weights"]
        assert values["chance/p3"] == pytest.approx(1 / 64) and values["positive_pairs/p3"] == 64
        assert (values["match_accuracy/p3"] == 1) != mirrored


def test_weights_are_loaded(images, tmp_path, capsys):
    torch.manual_seed(5)
    PixProCheckpointer(build_model(configs.tiny()), str(tmp_path)).save("model")
    args = ["--input", images, "--weights", str(tmp_path / "model.pth")]
    found = json.loads(run(capsys, *args, "--json", *TINY).splitlines()[-1])
    assert found["random"] == json.loads(run(capsys, "--input", images, "--json", *TINY).splitlines()[-1])["weights"]
    assert found["weights"] != found["random"]
    alone = json.loads(run(capsys, *args, "--json", "--no-random", *TINY).splitlines()[-1])
    assert alone == {"weights": found["weights"]}
    assert "the position is readable on" in run(capsys, *args, *TINY)


def test_a_file_without_a_target_is_measured_with_a_copy(images, tmp_path, capsys, caplog):
    """As one with an equal target is: the loss compares both branches."""
    torch.manual_seed(5)
    state = build_model(configs.tiny()).state_dict()  # whose branches are equal
    found = {}
    for name, left_out in {"whole": ("none",), "online": ("target_",), "backbone": ("target_", "proj", "ppm")}.items():
        kept = {key: value for key, value in state.items() if not key.startswith(left_out)}
        torch.save({"model": kept}, tmp_path / f"{name}.pth")
        opts = [*TINY, "MODEL.WEIGHTS", str(tmp_path / f"{name}.pth")]  # of which a --weights would go first
        found[name] = json.loads(run(capsys, "--input", images, "--json", *opts).splitlines()[-1])["weights"]
        assert ("passes through a random part" in caplog.text) == (name == "backbone")
    assert found["whole"] == found["online"]
    assert found["backbone"]["match_accuracy/p3"] == found["whole"]["match_accuracy/p3"]
    assert found["backbone"]["loss/p3"] != found["whole"]["loss/p3"]


def test_the_height_needs_runs_of_two_videos(tmp_path, capsys):
    for name in ("abc/a", "abc/b", "abc/c", "a/a"):
        write_images(tmp_path / name, 2, size=(40, 40))
    halves = []
    for folder, is_judged in (("abc", True), ("a", False)):
        opts = ["--count", "4", "--json", *TINY, "INPUT.PIXPRO.N_FRAMES", "1"]
        with logged("pixpro_d2") as messages:
            values = json.loads(run(capsys, "--input", str(tmp_path / folder), *opts))["weights"]
        halves.append([values[f"height_r2/p{i}"] is not None for i in (3, 4, 5)])
        assert any("height_r2 is NaN" in message for message in messages) != is_judged
    assert halves == [[True] * 3, [False] * 3]


def test_json_has_null_for_nan(tmp_path, capsys):
    """One image has no test of its height."""
    write_images(tmp_path, 1, size=(40, 40))

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    values = json.loads(run(capsys, "--input", str(tmp_path), "--json", *TINY), parse_constant=refuse)["weights"]
    assert values["height_r2/p3"] is None and values["chance/p3"] > 0


def test_configs_without_a_pixel_loss_are_refused(images):
    with pytest.raises(SystemExit, match="has no pixel-level pre-training"):
        measure.main([*CONFIG[:1], str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml"), "--input", images])
