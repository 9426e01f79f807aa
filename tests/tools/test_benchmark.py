"""The benchmarks as a user runs them: they are complete, readable and refuse mistakes; how fast is no test's matter."""

import json

import pytest
from benchmark_helpers import C5, FPN, RESNET18, config_file
from data_helpers import write_images

import configs
from pixpro_d2.extras.benchmark import gpu
from pixpro_d2.extras.benchmark.memory import GPU_SIZES
from pixpro_d2.extras.benchmark.step import measured_config
from pixpro_d2.tools import benchmark, benchmark_gpu

TINY = [str(option) for option in (*configs.TINY, *RESNET18)]
PARTS = [
    "data", "input", "forward online", "forward target", "PPM", "correspondence and loss", "backward", "optimiser",
    "EMA",
]  # fmt: skip


@pytest.fixture
def run(tmp_path, capsys):
    """``run(command, config, *args)``: what it prints, and what it writes as JSON."""

    def function(command, config, *args, options=()):
        path = tmp_path / "report.json"
        common = ["--config-file", config_file(config), "--device", "cpu", "--batch", "2", "--json", str(path)]
        benchmark.main([command, *common, *map(str, args), *TINY, *options])
        report = json.loads(path.read_text())
        assert report["torch"] and report["detectron2"] and report["threads"] >= 1 and report["device"]
        assert report["config"] == config_file(config) and report["options"][: len(TINY)] == TINY
        return capsys.readouterr().out, report[command]

    return function


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 4, size=(40, 40))
    return str(tmp_path / "images")


def test_step(run):
    text, result = run("step", FPN, "--repeats", 2, "--warmup", 0, "--source", "cached")
    assert list(result["parts"]) == [*PARTS, "rest"] and len(result["seconds"]) == 2
    for words in (*PARTS, "iteration, median", "images/s: median", "peak memory", "GFLOP in an iteration", "TB/s"):
        assert words in text, words
    share = result["flops"] / result["flops_bound"]
    assert f"{share:.1%} of {result['flops_bound'] / 1e12:.3g} TFLOP/s" in text


def test_optimizer(run):
    text, result = run("optimizer", C5, "--repeats", 3, "--warmup", 1)
    assert list(result["parts"]) == ["optimiser", "EMA", "rest"] and len(result["seconds"]) == 3
    assert "iteration, median" in text


def test_memory(run):
    text, result = run("memory", C5)
    assert list(result["largest_batch"]) == [str(size) for size in GPU_SIZES]
    batches = list(result["largest_batch"].values())
    assert batches == sorted(batches) and 0 < batches[0] < batches[-1]
    assert "kept per image" in text and str(batches[0]) in text


def test_data_and_loader(run, images):
    text, result = run("data", C5, "--input", images, "--count", 2, "--repeats", 1)
    assert "model / plain" in text and result["pipelines"]["cpu"]["median"] > 0 and result["stages"]["decode"] > 0
    text, result = run("loader", C5, "--input", images, "--seconds", 0.01)
    assert "images_per_second" in text and result["images"] >= 2


@pytest.mark.slow
def test_both_sides_in_their_processes_agree(run):
    text, result = run("step", FPN, "--batch", 4, "--repeats", 2, "--warmup", 1, "--compare", "reference")
    assert len(result["seconds"]["ours"]) == len(result["seconds"]["reference"]) == 2
    assert list(result["parts"]["reference"]) == list(result["parts"]["ours"]) == [*PARTS, "rest"]
    assert 0 < result["difference"] < 1e-4  # two different computations
    assert "reference / ours: median" in text and "over 2 pairs" in text
    text, result = run("optimizer", C5, "--repeats", 1, "--warmup", 0, "--compare", "reference")
    assert result["difference"] < 1e-4 and "norms of the weights" in text


@pytest.mark.parametrize(
    "command, config, args, message",
    [
        ("step", C5, ["--compare", "reference", "--source", "loader"], "Two loaders at once"),
        ("memory", "voc/faster_rcnn_R_18_FPN_small.yaml", [], "is not of a pre-training"),
        ("loader", C5, ["--input", "/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(command, config, args, message):
    with pytest.raises(SystemExit, match=message):
        benchmark.main([command, "--config-file", config_file(config), "--device", "cpu", *args])


@pytest.mark.slow
def test_gpu_rows_at_their_smallest(tmp_path, capsys, monkeypatch):
    rows = tuple(row for row in gpu.ROWS if row.options != gpu.COMPILE_OPTIONS)  # compiling takes minutes
    monkeypatch.setattr(gpu, "ROWS", rows)
    path = tmp_path / "report.json"
    benchmark_gpu.main(["--tiny", "--device", "cpu", "--workers", "0", "--profile", "--json", str(path)])
    text, report = capsys.readouterr().out, json.loads(path.read_text())
    for row in rows:
        result = report["rows"][row.what]
        assert list(result["parts"]) == [*PARTS, "rest"]
        rate = result["images_per_second_overall" if row.source == "loader" else "images_per_second"]
        rate = rate if row.source == "loader" else rate["median"]
        line, checks = (line for line in text.splitlines() if line.startswith(f"| {row.what} "))
        assert f"| {rate:.0f} " in line and "not on a GPU" in checks
    assert "| pixpro_fpn.yaml" in text and "aten::mkldnn_convolution" in text
    (first, _) = (line for line in text.splitlines() if line.startswith(f"| {rows[0].what} "))
    assert "| 100% " in first and "2100 images/s on an H200" in first and "90% of the first" in text


@pytest.mark.parametrize("row", gpu.ROWS, ids=lambda row: row.what)
def test_the_config_of_each_gpu_row(row):
    cfg = measured_config(str(gpu.CONFIGS / row.config), row.config_options(gpu.FULL, 0), device="cpu")
    assert ("compiled" in row.what) == cfg.MODEL.PIXPRO.COMPILE


def test_a_row_that_does_not_fit_is_a_row():
    result = {
        "images_per_second": {"median": 50.0}, "images_per_second_overall": 40.0, "parts": {"backward": 0.002},
        "flops": 2e12, "flops_bound": 4e12, "bandwidth": 1e12, "bandwidth_bound": 4e12, "peak_bytes": 2**30,
    }  # fmt: skip
    first, second, third, *others = (row.what for row in gpu.ROWS)
    rows = {first: dict(result, images_per_second={"median": 80.0}), second: "out of memory", third: result}
    rows |= dict.fromkeys(others, result)
    lines = gpu.row_table(rows).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][2:] == ["80", "100%", "2 TFLOP/s (50%)", "1 TB/s (25%)", "1.0", "backward 2.0"]
    assert cells[1][2] == "out of memory"
    assert cells[2][1:4] == ["90% of the first", "40", "50%"]  # the loader's overall rate
    assert cells[3][1:4] == ["60% of the first", "50", "62%"]


def test_checks_of_rows():
    rows = {
        "eager": {"copied_gradients": 0, "waits": []},
        "compiled": {"copied_gradients": 3, "waits": ["step.py:7", "loop.py:9"]},
        "large": "out of memory",
        "here": {"copied_gradients": 1, "waits": None},
    }
    lines = gpu.checks_table(rows).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["eager", "0", "0"], ["compiled", "3", "2: step.py:7, loop.py:9"], ["here", "1", "not on a GPU"],
    ]  # fmt: skip


def test_without_a_gpu_there_is_nothing_to_measure():
    with pytest.raises(SystemExit, match="no GPU here to measure: add --tiny"):
        benchmark_gpu.main(["--device", "cpu"])
