"""The command line that draws positive pairs."""

import pytest
from PIL import Image

import configs
from pixpro_d2.tools import visualize
from pixpro_d2.tools.render import render_dataset

CONFIG = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("visualize") / "scenes"
    render_dataset(out, train=3, test=0, size=64, layouts=("voc",))
    return out


def test_one_picture_for_each_image(scenes, tmp_path, capsys):
    visualize.main(
        ["pairs", "--config-file", CONFIG, "--input", str(scenes), "--output", str(tmp_path), "--count", "2"]
    )
    paths = capsys.readouterr().out.split()
    assert [p.split("/")[-1] for p in paths] == ["pairs_000_000000.png", "pairs_001_000001.png"]
    assert all(Image.open(path).width == 3 * 400 + 80 for path in paths)


def test_data_set_and_options_of_the_config(scenes, tmp_path, capsys):
    opts = ["DATASETS.TRAIN", f"('voc:{scenes}@train',)", "INPUT.FORMAT", "BGR", "INPUT.PIXPRO.CROP_SIZE", "64"]
    visualize.main(["pairs", "--config-file", CONFIG, "--output", str(tmp_path), "--level", "p4", *opts])
    assert len(capsys.readouterr().out.split()) == 3


@pytest.mark.parametrize(
    "args, message",
    [
        (["--level", "p9"], "error: There is no level 'p9'"),
        (["--input", "nowhere"], "error: No image file"),
        (["MODEL.PIXPRO.TAU", "1"], "error: There is no config key 'MODEL.PIXPRO.TAU'"),
    ],
)
def test_mistakes_are_one_line(scenes, tmp_path, args, message):
    words = ["pairs", "--config-file", CONFIG, "--output", str(tmp_path)]
    words += args if args[0] == "--input" else ["--input", str(scenes), *args]
    with pytest.raises(SystemExit, match=message):
        visualize.main(words)
