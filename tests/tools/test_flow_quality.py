"""The table of flow against the truth, on a few tiny videos."""

import json

import numpy as np
import pytest
import torch

from pixpro_d2.extras.scenes.video_scene import render_clip
from pixpro_d2.extras.video.flow_comparison import measure
from pixpro_d2.modeling.pretrain.flow_points import CONSISTENCY
from pixpro_d2.tools import flow_quality

SMALL = ["--videos", 2, "--frames", 4, "--size", "64x96", "--n-frames", 3, "--views", 6, "--grid", 5]


class _Exact:
    """Estimator that knows the flow of the videos, in the order in which it is asked for it; or says zero."""

    name = "known"
    scale = 8

    def __init__(self, factor):
        clips = [render_clip(np.random.default_rng((0, i)), 4, 64, 96) for i in range(2)]
        self.flows = [flow * factor for clip in clips for flow in (clip.forward, clip.backward)]

    def __call__(self, first, second):
        assert first.shape == second.shape == (3, 3, 64, 96) and first.dtype == torch.uint8
        return torch.from_numpy(self.flows.pop(0))


def _measure(estimator):
    rows = measure(2, estimator, frames=4, size=(64, 96), n_frames=3, views=6, grid=5)
    return {(row["flow"], row["consistency"]): row for row in rows}


def test_an_exact_estimator_is_as_good_as_exact_flow():
    rows = _measure(_Exact(1))
    assert len(rows) == 12 and len({row["true"] for row in rows.values()}) == 1
    for consistency in CONSISTENCY:
        exact, known = rows["exact, 1/1", consistency], rows["known, 1/8", consistency]
        assert exact["precision_clear"] == 1.0
        assert {**known, "flow": ""} == {**exact, "flow": ""}
        assert rows["exact, 1/8", consistency]["precision_clear"] < 1.0  # 12 x 8 vectors for 64 x 96 pixels
    none, pixel = rows["exact, 1/1", "none"], rows["exact, 1/1", "pixel"]
    assert none["valid"] == 1.0 > pixel["valid"] and none["recall"] >= pixel["recall"]
    assert none["hidden"] > pixel["hidden"] and none["precision"] < pixel["precision"]


def test_no_motion_is_worse_than_exact_flow():
    rows = _measure(_Exact(0))
    exact, still = rows["exact, 1/1", "none"], rows["known, 1/8", "none"]
    assert still["precision"] < exact["precision"] and still["recall"] < exact["recall"]
    assert still["precision_clear"] < 1


def test_the_command_prints_the_table(capsys):
    flow_quality.main([*map(str, SMALL), "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["flow"] for row in rows[::4]] == ["exact, 1/1", "exact, 1/8", "dis, 1/8"]
    assert [row["consistency"] for row in rows] == [*CONSISTENCY] * 3
    flow_quality.main(list(map(str, SMALL)))
    first, *table = capsys.readouterr().out.splitlines()
    assert first == f"{rows[0]['true']} true pairs" and len(table) == 2 + 12
    for line, row in zip(table[2:], rows):
        *_, consistency, claimed, precision, clear, recall, hidden, valid = line.split()
        assert (consistency, int(claimed)) == (row["consistency"], row["claimed"])
        shown = [float(x) / 100 for x in (precision, clear, recall, hidden, valid)]
        keys = ("precision", "precision_clear", "recall", "hidden", "valid")
        assert shown == pytest.approx([row[key] for key in keys], abs=1e-4)


def test_a_strict_tolerance_trusts_less(capsys):
    flow_quality.main([*map(str, SMALL), "--json"])
    usual = json.loads(capsys.readouterr().out)
    flow_quality.main([*map(str, SMALL), "--json", "--alpha1", "0", "--alpha2", "0.0001"])
    strict = json.loads(capsys.readouterr().out)
    for before, after in zip(usual, strict):
        if before["consistency"] == "pixel":
            assert after["valid"] < before["valid"]
        elif before["consistency"] == "none":
            assert after == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--size", "60x96"], "--flow-scale is 8; it must divide the height 60 and the width 96"),
        (["--frames", "5"], "--n-frames is 6; it must be at least 2, and at most the 5 of --frames"),
        (["--n-frames", "1"], "--n-frames is 1"),
        (["--weights", "raft.pth"], "dis takes no weights"),
    ],
)
def test_mistakes(argv, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        flow_quality.main(argv)


def test_a_number_below_one():
    with pytest.raises(SystemExit) as caught:
        flow_quality.main(["--videos", "0"])
    assert caught.value.code == 2
