"""The demo in its smallest form, from rendering to the table."""

import re
import statistics
from types import SimpleNamespace

import forked
import pytest
from PIL import Image

from pixpro_d2.extras.demo import experiments, table
from pixpro_d2.extras.demo.experiments import METHODS, RANDOM, SIZES, Size, fine_tuning_name, list_experiments
from pixpro_d2.extras.study import running
from pixpro_d2.tools import demo

TITLES = (RANDOM, *METHODS)


@pytest.mark.slow
def test_demo_leaves_results_and_pictures_and_repeats_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "subprocess", SimpleNamespace(Popen=forked.popen, STDOUT=None))
    monkeypatch.delitem(experiments.METHODS, "PixContrast")  # fewer trainings
    argv = ["--size", "smoke", "--output", str(tmp_path)]
    demo.main(argv)
    printed = capsys.readouterr().out
    for title in (RANDOM, "PixPro"):
        assert re.search(rf"\| {title} +\| \d+\.\d ± \d+\.\d +\| (\d+\.\d(, )?){{2}} +\|", printed), printed
    assert "6 of 6 trainings to run" in printed and printed.count("$ pixpro-d2 train --config-file") == 2
    log = (tmp_path / "runs/fine-tune-pixpro-seed1/log.txt").read_text()
    assert f"{tmp_path.name}/runs/pretrain-pixpro-seed1/model_final.pth" in log
    assert "Backbone: 20 of 20 convolutions" in log
    assert "Backbone:" not in (tmp_path / "runs/fine-tune-random-seed1/log.txt").read_text()
    for name in ("pairs", "features", "segmentations"):
        assert Image.open(tmp_path / f"{name}.png").width > 600
    badges = (tmp_path / "report.html").read_text().count('<span class="badge">')
    assert badges == 4  # of the three runs, and of their comparison

    demo.main(argv)
    again = capsys.readouterr().out
    assert "0 of 6 trainings to run" in again
    assert table_of(again) == table_of(printed)


def test_a_missing_gpu_is_found_before_the_first_scene(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="^error: --device is 'cuda', but PyTorch sees no GPU: leave --device out"):
        demo.main(["--device", "cuda", "--output", str(tmp_path / "demo")])
    assert not (tmp_path / "demo").exists()


def table_of(printed):
    return [line for line in printed.splitlines() if line.startswith("|")]


def results(*values):
    """Results by name, of one row of seeds for each of TITLES."""
    return {
        fine_tuning_name(title, seed): {"metrics": {"sem_seg/mIoU": value}}
        for title, row in zip(TITLES, values, strict=True)
        for seed, value in enumerate(row)
    }


SIZE = Size(1, 1, 1, 1, 1, seeds=(0, 1, 2))
# gains of PixPro 4, 5, 6: 5 +- 0.58; of PixContrast -3, 0, 3: 0 +- 1.7
VALUES = table.gather_values(SIZE, results((30.0, 31.0, 32.0), (34.0, 36.0, 38.0), (27.0, 31.0, 35.0)))


def test_table_has_means_errors_and_gains():
    lines = [re.split(r" *\| *", line)[1:-1] for line in table.table(VALUES).splitlines()]
    assert lines[2:] == [
        ["random weights", "31.0 ± 0.6", "30.0, 31.0, 32.0", ""],
        ["PixPro", "36.0 ± 1.2", "34.0, 36.0, 38.0", "+5.0 ± 0.6"],
        ["PixContrast", "31.0 ± 2.3", "27.0, 31.0, 35.0", "+0.0 ± 1.7"],
    ]
    assert statistics.stdev([4, 5, 6]) / 3**0.5 == pytest.approx(0.577, abs=1e-3)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((34.0, 36.0, 38.0), "PixPro helps: +5.0 ± 0.6 mIoU over random weights, beyond two standard errors."),
        ((26.0, 26.0, 26.0), "PixPro harms: -5.0 ± 0.6 mIoU over random weights, beyond two standard errors."),
        ((31.0, 31.0, 35.0), "PixPro against random weights: +1.3 ± 0.9 mIoU, within two standard errors of nothing."),
    ],
)
def test_verdict(row, said):
    assert table.verdict(table.gather_values(SIZE, results((30.0, 31.0, 32.0), row, row))) == said


def test_every_initialisation_has_the_same_fine_tuning(tmp_path):
    experiments = {x.name: x for x in list_experiments(tmp_path, SIZES["demo"], "cpu")}
    assert len(experiments) == 15  # 3 seeds of 3 fine-tunings and 2 pre-trainings
    for seed in (0, 1, 2):
        tunings = [experiments[fine_tuning_name(title, seed)] for title in TITLES]
        assert all(x.options == tunings[0].options and x.options["SEED"] == seed for x in tunings)
        assert [x.weights and x.weights.name for x in tunings] == [
            None, f"pretrain-pixpro-seed{seed}", f"pretrain-pixcontrast-seed{seed}",
        ]  # fmt: skip
