"""The page: tables out of the results, what a person wrote kept."""

import pytest
from PIL import Image
from study_helpers import fine_tunings, result

from pixpro_d2.errors import UsageError
from pixpro_d2.study.page import BEGIN, END, write_page


def made_up():
    results = fine_tunings("detection", "random", "20", [10.0, 12.0])
    results |= fine_tunings("detection", "pixpro", "20", [13.0, 17.0])
    losses = {"pretrain-pixpro": -3.25, "pretrain-pixpro_c5": -3.1}
    return results | {name: result(name, total_loss=loss) for name, loss in losses.items()}


def cells(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]


def test_tables_plots_and_commands(tmp_path):
    written = write_page(tmp_path / "docs" / "study.md", made_up())
    page = (tmp_path / "docs" / "study.md").read_text()
    assert ["20 images", "random", "11.0 ± 1.4", "", "2", "30"] in cells(page)
    assert ["20 images", "PixPro on P3-P6", "15.0 ± 2.8", "+4.0 ± 1.4", "2", "30"] in cells(page)
    assert ["PixPro on P3-P6", "-3.250", "30"] in cells(page)
    assert page.count("pre-train no feature pyramid") == 2 and "images of this batch alone" in page
    commands = [line for line in page.splitlines() if line.startswith("python train_net.py ")]
    shown = ["pretrain-pixpro", "pretrain-pixpro_c5", "detection-random-20-seed1"]
    assert commands == [f"python train_net.py {name}" for name in shown]
    assert "\n6 runs, 0.1 hours in all, on two cores." in page
    pictures = [path for path in written if path.endswith(".png")]
    assert [path.rsplit("_")[-1] for path in pictures] == ["labels.png", "methods.png", "levels.png"]
    assert all(Image.open(path).width == 1000 and f"({path.rsplit('/')[-1]})" in page for path in pictures)


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
