"""The page, without a browser."""

import copy
import html
import json
import re
import shutil

import numpy as np
from PIL import Image
from report_helpers import CONFIG, LOG, MACHINE, healthy_lines, write_run

from pixpro_d2.extras.report.page import build_films, render
from pixpro_d2.extras.report.runs import read_run

EVIL = "</script><img src=x onerror=alert(1)>'\"&"


def page_of(*folders):
    return render([read_run(folder, folder.name) for folder in folders])


def test_everything_is_inside(tmp_path):
    pictures = [("features_0000019.png", "red"), ("features_0000199.png", "blue")]
    lines = healthy_lines(bbox__AP=lambda i: 10.0 + i)
    first = write_run(tmp_path / "first", lines, pictures=pictures)
    config = copy.deepcopy(CONFIG)
    config["MODEL"]["RESNETS"]["DEPTH"] = 50
    second = write_run(tmp_path / "second", healthy_lines(), config, machine={**MACHINE, "torch": "2.7.0"})
    page = page_of(first, second)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for part in (
        "2 runs", "Worth a look", "3 steps were skipped", "ResNet-50 FPN", "200 of 200 iterations, finished",
        "bbox/AP", "19.0", "Skipped an unreadable image (1 so far): a.jpg", "2.7.0",
        "python train_net.py --config-file configs/a.yaml --num-gpus 2",
    ):  # fmt: skip
        assert part in text, part
    differing = re.search(r"Where the configs differ.*?</section>", page, re.S)[0]
    assert re.findall(r"<code>(.*?)</code>", differing) == ["MODEL.RESNETS.DEPTH"]
    assert len(re.findall(r'<img src="data:image/png;base64,', page)) == 2


def test_numbered_pictures_are_shown_together(tmp_path):
    names = ("a_1", "a_2", "features", "pairs")
    first = write_run(tmp_path / "first", pictures=[(f"{name}_0000019.png", "red") for name in names])
    second = write_run(tmp_path / "second", pictures=[("a_2_0000039.png", "red")])
    groups, _ = build_films([read_run(folder, folder.name) for folder in (first, second)])
    found = [(title, [(film["name"], [run for run, _ in film["runs"]]) for film in films]) for title, films in groups]
    assert found == [
        ("features", [("features", [0])]), ("a", [("a_1", [0]), ("a_2", [0, 1])]), ("pairs", [("pairs", [0])])
    ]  # fmt: skip


def test_the_first_screen_answers_first(tmp_path):
    """A pre-training alone: its verdict, then the next step. With results: whether they beat random weights."""
    task = copy.deepcopy(CONFIG)
    task["MODEL"] |= {"META_ARCHITECTURE": "GeneralizedRCNN", "WEIGHTS": ""}
    pretraining = write_run(tmp_path / "first", healthy_lines())
    detector = write_run(tmp_path / "second", healthy_lines(bbox__AP=10.0), task)
    for folders, first, second in (
        ([pretraining], "How it went", "Better than random weights?"),
        ([pretraining, detector], "Better than random weights?", "Worth a look"),
    ):
        page = page_of(*folders)
        assert 0 < page.index(first) < page.index(second) < page.index('<form class="timeline"')


def test_the_table_shows_nan_and_results_before_the_end(tmp_path):
    """The first run ends with NaN after 200 iterations; the second run has evaluated only early."""
    nan = [{"iteration": 99, "bbox/AP": 30.0}, {"iteration": 200, "bbox/AP": float("nan")}]
    early = [{"iteration": 79, "bbox/AP": 12.0}, {"iteration": 99, "bbox/AP": 11.0}]
    page = page_of(*(write_run(tmp_path / str(i), healthy_lines() + more) for i, more in enumerate((nan, early))))
    cells = re.findall(r'<td class="(.*?)"><span class="bar" style="width:(.*?)"></span>(.*?)</td>', page, re.S)
    found = [(class_, width, " ".join(re.sub("<.*?>", " ", text).split())) for class_, width, text in cells]
    assert found == [("c0", "0.0%", "NaN best 30.0 at 99"), ("c1 best", "100.0%", "11.0 at 99 best 12.0 at 79")]


def test_levels_are_explained_once_and_keep_their_colour(tmp_path):
    more = {f"{name}__{level}": 0.2 for name in ("match_accuracy", "test__match_accuracy") for level in ("p3", "p4")}
    page = page_of(write_run(tmp_path / "run", healthy_lines(**more)))
    words = html.unescape(re.sub(r"<[^>]+>|\s+", " ", page))
    assert re.sub(" +", " ", words).count("p3 8 × 8, p4 16 × 16. A level has the same colour in all charts") == 1
    charts = [json.loads(data) for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)]
    colours = {(line["name"], line["colour"]) for chart in charts for line in chart["lines"] if "p" in line["name"]}
    assert colours == {("p3", 1), ("p4", 2), ("test/p3", 9), ("test/p4", 10)}  # dashed from 8 on


def test_secondary_charts_are_folded(tmp_path):
    page = page_of(write_run(tmp_path / "run", healthy_lines(match_accuracy__p3=0.4)))
    shown, folded = re.search(r"<h2>Pre-training</h2>(.*?)<details>(.*?)</details>", page, re.S).groups()
    assert re.findall("<h3>(.*?)</h3>", shown) == ["Loss", "Spread of features", "Match accuracy"]
    assert "Learning rate" in re.findall("<h3>(.*?)</h3>", folded)


def test_a_page_of_many_pictures_has_at_most_five_megabytes(tmp_path):
    folder = write_run(tmp_path / "run", healthy_lines())
    pixels = np.random.default_rng(0).integers(0, 255, (400, 1000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "vis" / "features_0000000.png")  # 1.2 MB, and a copy of 0.4 MB
    for i in range(1, 24):
        shutil.copy(folder / "vis" / "features_0000000.png", folder / "vis" / f"features_{i:07d}.png")
    page = page_of(folder)
    assert 3e6 < len(page) < 5e6 and "to keep this page small; " in page


def test_nothing_is_fetched(tmp_path):
    page = page_of(write_run(tmp_path / "run", healthy_lines(), pictures=[("a_0000019.png", "red")]))
    assert "default-src 'none'" in page
    assert all(address.startswith("data:") for address in re.findall(r'(?:src|href|action)="([^"]*)"', page))
    assert not re.search(r"url\(|@import|<link|<iframe", page)


def test_what_comes_from_files_is_only_text(tmp_path):
    config = copy.deepcopy(CONFIG)
    config["DATASETS"]["TRAIN"] = [EVIL]
    config[EVIL] = EVIL
    log = LOG.replace("a.jpg", EVIL)
    lines = healthy_lines(**{EVIL.replace("/", "__"): 1.0})
    lines[0]["bbox/AP" + EVIL] = 5.0
    folder = write_run(
        tmp_path / "<b>run", lines, config, log, [("<i>x_0000019.png", "red")], "</pre><script>", {EVIL: EVIL}
    )
    other = write_run(tmp_path / "other", healthy_lines())
    page = page_of(folder, other)
    own = page_of(other).count("<script")
    assert page.count("<script") - page.count('<script type="application/json">') == 1 and own > 1
    assert "<img src=x" not in page and "<b>run" not in page and "<i>x" not in page and "</pre><script>" not in page
    for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.S):
        json.loads(data)


def test_missing_parts_are_said(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("SOLVER: {MAX_ITER: 5}")
    page = page_of(folder)
    for sentence in ("There are no curves", "There are no pictures over time", "Two finished fine-tunings are needed",
                     "There is no log.txt", "Too early to tell"):  # fmt: skip
        assert sentence in page
    assert "How and where it ran" not in page and "Where the configs differ" not in page


def test_a_run_has_the_same_colour_everywhere(tmp_path):
    first = write_run(tmp_path / "a", healthy_lines(), log="", command="")
    folders = [first, write_run(tmp_path / "b", healthy_lines())]
    page = page_of(*folders)
    colours = set(re.findall(r'<span class="key (c\d) dash0"[^>]*></span> b\b', page))
    assert colours == {"c1"} and len(re.findall(r"</span> b\b", page)) >= 3


def test_many_runs_look_different(tmp_path):
    run = read_run(write_run(tmp_path / "run"), "run")
    keys = re.findall(r'<h2><span class="key (.*?)"', render([run] * 32))
    assert keys[:9:8] == ["c0 dash0", "c0 dash1"] and len(set(keys)) == len(keys) == 32


def test_an_unfinished_run_with_gaps(tmp_path):
    lines = healthy_lines(6, total_loss=lambda i: float("nan") if i == 5 else -i)
    page = page_of(write_run(tmp_path / "run", lines, log=""))
    assert "120 of 200 iterations, not finished" in page and "Looks unhealthy" in page and "NaN." in page
    assert "[119, null]" in page
