"""The demo in its smallest form, from rendering to the table."""

import json
import re

import pytest
from PIL import Image

from pixpro_d2.errors import UsageError
from pixpro_d2.tools import demo


@pytest.mark.slow
def test_demo_leaves_results_and_pictures_and_repeats_nothing(tmp_path, capsys):
    argv = ["--size", "smoke", "--output", str(tmp_path)]
    demo.main(argv)
    printed = capsys.readouterr().out
    for row in ("PixPro", "random"):
        assert re.search(rf"\| {row} +\|( +-?\d+\.\d \|| +nan \|){{3}}", printed), printed
    assert printed.count("$ python train_net.py") == 3
    log = (tmp_path / "finetune_pixpro" / "stdout.txt").read_text()
    assert "Backbone: 20 of 20 convolutions" in log
    assert "Backbone:" not in (tmp_path / "finetune_random" / "stdout.txt").read_text()
    for name in ("correspondences.png", "detections.png"):
        assert Image.open(tmp_path / name).width > 600

    demo.main(argv)
    again = capsys.readouterr().out
    assert "$ python" not in again and again.count("done before") == 3


def test_a_failing_run_shows_its_log(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"^The run in .*run failed.* stdout.txt there\.$"):
        demo.run_train_net(tmp_path / "run", demo.PRETRAIN, "MODEL.TYPO", 1)
    assert "There is no config key 'MODEL.TYPO'" in capsys.readouterr().err


def test_results_are_the_last_evaluation(tmp_path):
    lines = [{"iteration": i, "bbox/AP": i, "bbox/AP50": 2 * i, "bbox/AP75": 3 * i} for i in (1, 2)]
    lines.append({"iteration": 3, "lr": 1})
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert demo.results(tmp_path) == [2, 4, 6]
