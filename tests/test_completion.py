"""Completion in a shell: the script's own answers to words that are typed halfway."""

import subprocess
from pathlib import Path

import pytest

from pixpro_d2 import cli

ROOT = Path(__file__).resolve().parents[1]
ASK = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={last}
{function}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """Path of the script for bash."""
    pytest.importorskip("shtab")
    from pixpro_d2 import completion

    path = tmp_path_factory.mktemp("completion") / "pixpro-d2"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lines.append)
        completion.main(["bash"])
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pixpro-d2 fine", {"finetune"}),
        ("pixpro-d2 convert a.pth b.pth --wi", {"--with-fpn", "--without-fpn"}),
        ("pixpro-d2 finetune --task seg", {"segmentation"}),
        ("pixpro-d2 train --init pixpro_c", {"pixpro_c5"}),
        ("pixpro-d2 visualize fea", {"features"}),
        ("pixpro-d2 pretrain photos --recipe pretrain/quick", {"pretrain/quickstart"}),
        ("pixpro-d2 train --config-file pretrain/quick", {"pretrain/quickstart"}),
        ("pixpro-d2 train --config-file train_n", {"train_net.py"}),
        ("pixpro-d2 finetune a.pth --config voc/fcn", {"voc/fcn_R_50_30k"}),
    ],
)
def test_words_are_completed(script, words, expected):
    function = "_shtab_pixpro_d2"
    program = ASK.format(script=script, words=words, last=len(words.split()) - 1, function=function)
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected, done.stderr


def test_without_detectron2_one_sentence_says_how_to_get_it(monkeypatch):
    """Some parsers of commands import it."""
    monkeypatch.setattr("pixpro_d2.commands.checks.detectron2_is_installed", lambda: False)
    with pytest.raises(SystemExit, match="^error: detectron2 is not installed: run `pixpro-d2 install-detectron2`"):
        cli.main(["completion", "bash"])


def test_without_shtab_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("pixpro_d2.completion.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="^error: The script is made by shtab, which is not installed: run `pip inst"):
        cli.main(["completion", "bash"])
