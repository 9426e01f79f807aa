"""The report as a user makes it, and as a browser shows it."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from report_helpers import healthy_lines, write_run

from pixpro_d2.tools import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

# What a reader does; each step notes in the page what can be seen then. All after the page's own script has run.
ACTIONS = """
<script>
const seen = {}, note = (step) => (seen[step] = [
  document.querySelector(".timeline output").textContent,
  document.querySelector(".film img:not([hidden])").alt,
  document.querySelector(".chart li b").textContent,
].join("|"));
const bar = document.querySelector(".timeline").getBoundingClientRect();
seen.covered = [...document.querySelectorAll("p, h2, h3, img, svg, dl, table")].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && box.top < bar.bottom && box.bottom > bar.top;
}).map((node) => node.outerHTML.slice(0, 60));
const chart = document.querySelector(".chart svg"), box = chart.getBoundingClientRect();
const at = (share) => ({ clientX: box.left + 52 + share * (box.width - 62), bubbles: true });
note("first");
chart.dispatchEvent(new PointerEvent("pointermove", at(0.5)));
note("hover");
chart.dispatchEvent(new PointerEvent("pointerleave", at(0.5)));
note("leave");
chart.dispatchEvent(new MouseEvent("click", at(0.3)));
note("click");
const range = document.querySelector(".timeline input");
range.value = 0;
range.dispatchEvent(new Event("input"));
note("slider");
const lines = () => [...document.querySelectorAll(".chart svg .line")].map((line) => line.getAttribute("d")).join();
const button = [...document.querySelectorAll(".chart button")].find((button) => !button.hidden), before = lines();
button.click();
seen.log = `${button.getAttribute("aria-pressed")}|${before !== lines()}`;
document.querySelector(".timeline button").click();
seen.playing = document.querySelector(".timeline button").getAttribute("aria-label");
setTimeout(() => {
  note("played");
  document.title = JSON.stringify(seen);
}, 15000);
</script>
"""


def browse(page, tmp_path, *options):
    """Open a page in a headless browser; returns what it prints, and its errors."""
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1000,1600", "--virtual-time-budget=20000",
        "--enable-logging=stderr", *options, page.as_uri(),
    ]  # fmt: skip
    env = dict(os.environ, HOME=str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


@pytest.fixture
def folders(tmp_path):
    """One run with pictures, and one that is half as long."""
    pictures = [("features_0000019.png", "red"), ("features_0000119.png", "green"), ("features_0000199.png", "blue")]
    lines = healthy_lines(positive_pairs__p3=lambda i: 10.0 * (i + 1))
    return [
        write_run(tmp_path / "long", lines, pictures=pictures),
        write_run(tmp_path / "short", healthy_lines(5)),
    ]


def test_the_page_is_written_into_the_first_folder(folders, capsys):
    report.main([*map(str, folders)])
    path = folders[0] / "report.html"
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert "<title>2 runs" in path.read_text()


def test_a_report_among_the_arguments_is_skipped(folders, tmp_path, capsys):
    """As of `report output/*` with an earlier report, which comes first."""
    (tmp_path / "a.html").touch()
    report.main([str(tmp_path / "a.html"), *map(str, folders)])
    out, err = capsys.readouterr()
    assert out == f"wrote {folders[0] / 'report.html'}\n" and str(tmp_path / "a.html") in err


def test_a_file_can_be_named(folders, tmp_path):
    report.main([str(folders[1]), "--output", str(tmp_path / "new/page.html")])
    assert "<title>short" in (tmp_path / "new/page.html").read_text()


def test_mistakes_are_one_sentence(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=f"error: There is no run in {tmp_path / 'empty'}"):
        report.main([str(tmp_path / "empty")])
    with pytest.raises(SystemExit, match="cannot be written to .*name a file by --output"):
        report.main([str(folders[0]), "--output", str(folders[0] / "log.txt/page.html")])


@needs_browser
def test_a_reader_moves_through_time(folders, tmp_path):
    page = tmp_path / "page.html"
    report.main([*map(str, folders), "--output", str(page)])
    page.write_text(page.read_text().replace("</body>", ACTIONS + "</body>"))
    text, errors = browse(page, tmp_path, "--dump-dom")
    assert errors == []
    film = "features of long at iteration {}".format
    # The first chart is the total loss, -0.5 - 0.3 i at iteration 20 i + 19; it is 0 ... 199 wide.
    assert json.loads(html.unescape(re.search(r"<title>(.*?)</title>", text)[1])) == {
        "covered": [],
        "first": f"iteration 199|{film(199)}|-3.2",
        "hover": f"iteration 199|{film(199)}|-1.7",  # at 100: the last reading is that of 99, i = 4
        "leave": f"iteration 199|{film(199)}|-3.2",
        "click": f"iteration 59|{film(19)}|-1.1",  # at 60: that of 59, i = 2
        "slider": f"iteration 0|{film(19)}|-0.5",
        "log": "true|true",
        "playing": "Pause",
        "played": f"iteration 199|{film(199)}|-3.2",
    }


@needs_browser
@pytest.mark.parametrize(
    ("scheme", "paper", "line"), [(1, (251, 250, 247), (47, 111, 223)), (0, (19, 20, 24), (122, 174, 255))]
)
def test_the_page_is_painted_in_light_and_dark(folders, tmp_path, scheme, paper, line):
    report.main([*map(str, folders)])
    picture = tmp_path / "page.png"
    options = f"--screenshot={picture}", f"--blink-settings=preferredColorScheme={scheme}"
    _, errors = browse(folders[0] / "report.html", tmp_path, *options)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert errors == [] and pixels.shape == (1600, 1000, 3)
    assert tuple(pixels[5, 5]) == paper
    assert (pixels == line).all(axis=2).sum() > 500
