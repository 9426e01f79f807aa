"""The page: tables out of the results, what a person wrote kept."""

import pytest
from PIL import Image
from study_helpers import fine_tunings, result

from pixpro_d2.extras.study.page import BEGIN, END, write_page
from pixpro_d2.utils.errors import UsageError


def made_up():
    results = fine_tunings("objects", "random", "20", [10.0, 12.0], [14.0, 16.0])
    results |= fine_tunings("objects", "pixpro", "20", [13.0, 17.0], [19.0])
    results |= fine_tunings("objects", "supervised", "20", [12.0, 12.0])
    results |= fine_tunings("driving", "video6", "tuned", [40.0])
    losses = {"pretrain-pixpro-seed0": -3.25, "pretrain-pixpro-seed1": -3.1, "pretrain-video6-seed0": -2.0}
    return results | {name: result(name, total_loss=loss) for name, loss in losses.items()}


def cells(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]


def test_tables_plots_and_commands(tmp_path):
    written = write_page(tmp_path / "docs" / "study.md", made_up())
    page = (tmp_path / "docs" / "study.md").read_text()
    # Random weights: 11 and 15, the mean of which is 13, with the deviation 2.83 / root of 2.
    assert ["20 images a class", "random", "13.0 ± 2.0", "2.6", "", "2 x 2"] in cells(page)
    # Gains of the pairs: 3 and 5, and 5.
    assert ["20 images a class", "PixPro as in the paper", "17.0 ± 2.0", "3.1", "+4.5 ± 0.5", "2 x 1-2"] in cells(page)
    assert ["20 images a class", "labels (control)", "12.0", "0.0", "+1.0", "1 x 2"] in cells(page)
    assert ["PixPro as in the paper", "-3.250, -3.100"] in cells(page)
    overview = page[page.index("## All tasks") : page.index("## Objects")]
    assert cells(overview)[0] == ["task", "random", "PixPro as in the paper", "labels (control)", "PixPro, six frames"]
    assert cells(overview)[2:] == [
        ["Objects in photographs, 20 images a class (AP)", "13.0 ± 2.0", "+4.5 ± 0.5", "+1.0", ""],
        ["Rendered video, one frame or six, fine-tuned (mIoU)", "", "", "", "40.0"],
    ]
    commands = [line for line in page.splitlines() if line.startswith("python train_net.py ")]
    shown = ["pretrain-pixpro-seed0", "pretrain-video6-seed0", "objects-supervised-20-seed0-1"]
    assert commands == [f"python train_net.py OUTPUT_DIR {name}" for name in [*shown, "driving-video6-tuned-seed0-0"]]
    assert "\n13 runs, 0.1 hours in all, on two cores." in page
    pictures = [path for path in written if path.endswith(".png")]
    assert [path.rsplit("_")[-1] for path in pictures] == ["objects.png", "video.png"]
    assert all(Image.open(path).width == 1000 and f"({path.rsplit('/')[-1]})" in page for path in pictures)


def test_a_task_on_which_the_control_gains_little_is_said_not_to_judge(tmp_path):
    path = tmp_path / "study.md"
    write_page(path, made_up())
    words = "**20 images a class: this task cannot judge.** The control gains 1.0 AP over random weights, less than 3."
    assert path.read_text().count(words) == 1
    write_page(path, made_up() | fine_tunings("objects", "supervised", "20", [14.0, 14.0]))  # gains 4 and 2
    assert "this task cannot judge" not in path.read_text()


def test_what_a_person_wrote_is_kept(tmp_path):
    page = tmp_path / "study.md"
    page.write_text(f"My heading\n\n{BEGIN}\nold\n{END}\n\nMy findings.\n")
    write_page(page, made_up())
    text = page.read_text()
    assert text.startswith(f"My heading\n\n{BEGIN}\n") and text.endswith(f"{END}\n\nMy findings.\n")
    assert "old\n" not in text
    write_page(page, made_up())
    assert page.read_text() == text


def test_refused(tmp_path):
    page = tmp_path / "study.md"
    with pytest.raises(UsageError, match="no result of fine-tuning"):
        write_page(page, {})
    assert not page.exists()
    page.write_text("My page.")
    with pytest.raises(UsageError, match="lacks the lines"):
        write_page(page, made_up())
    assert page.read_text() == "My page." and len(list(tmp_path.iterdir())) == 1
