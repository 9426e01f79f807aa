"""The command that writes the flow of videos."""

import shutil

import numpy as np
import pytest
from data_helpers import noise
from flow_helpers import write_plain_frames
from PIL import Image

from pixpro_d2.flow_files import FlowFiles
from pixpro_d2.flow_files.native import read_info
from pixpro_d2.tools import extract_flow


def run(*argv):
    """Exit status of the command."""
    with pytest.raises(SystemExit) as caught:
        extract_flow.main(list(map(str, argv)))
    return caught.value.code


@pytest.fixture
def videos(tmp_path):
    """Folder of a video of 4 frames of 64 x 96 pixels, whose content moves 4 to the right a frame."""
    folder = tmp_path / "videos/a"
    folder.mkdir(parents=True)
    texture = np.array(Image.fromarray(noise(0, 16, 30)).resize((120, 64), Image.BICUBIC))
    for i in range(4):
        Image.fromarray(texture[:, 20 - 4 * i : 116 - 4 * i]).save(folder / f"{i:05d}.png")
    return tmp_path / "videos"


@pytest.mark.parametrize("scale", [8, 4])
def test_flow_by_the_default_estimator(videos, tmp_path, capsys, scale):
    assert run(videos, tmp_path / "flow", "--scale", scale, "--batch", 2) == 0
    assert "wrote the flow of 1 videos by dis, kept that of 0, skipped 0 videos" in capsys.readouterr().out
    there, back = FlowFiles(tmp_path / "flow").read("a", 0, 3)
    assert there.shape == (3, 2, 64 // scale, 96 // scale)
    for flow, sign in ((there, 1), (back, -1)):
        np.testing.assert_allclose(np.median(flow[:, 0], axis=(1, 2)), 4 * sign / scale, rtol=0.1)
        np.testing.assert_allclose(np.median(flow[:, 1], axis=(1, 2)), 0, atol=0.1)
    assert run(videos, tmp_path / "flow", "--scale", scale) == 0
    assert "wrote the flow of 0 videos by dis, kept that of 1" in capsys.readouterr().out


def test_flow_by_raft(videos, tmp_path):
    assert run(videos, tmp_path / "flow", "--estimator", "raft_small", "--weights", "random") == 0
    assert read_info(tmp_path / "flow", "a")[:5] == ("a", 4, (64, 96), (8, 12), "raft_small (random)")
    FlowFiles(tmp_path / "flow").check("a", 4, (64, 96))


def test_another_scale_has_to_be_asked_for(videos, tmp_path):
    assert run(videos, tmp_path / "flow") == 0
    assert "flow/a has flow by dis at 1/8" in run(videos, tmp_path / "flow", "--scale", 4)
    assert run(videos, tmp_path / "flow", "--scale", 4, "--overwrite") == 0
    assert read_info(tmp_path / "flow", "a").flow_size == (16, 24)


def test_flow_of_another_video_of_the_same_name_is_kept(videos, tmp_path):
    (tmp_path / "others/a").mkdir(parents=True)
    for i in range(4):  # in reverse the content moves to the left
        shutil.copy(videos / f"a/{3 - i:05d}.png", tmp_path / f"others/a/{i:05d}.png")
    assert run(videos, tmp_path / "flow") == 0
    before = FlowFiles(tmp_path / "flow").read("a", 0, 3)[0]
    assert run(tmp_path / "others", tmp_path / "flow") == (
        f"error: {tmp_path}/flow/a has flow of the frames in {tmp_path}/videos/a, not of those in {tmp_path}/others/a: "
        "choose another folder for the flow, rename the video, or replace the flow with --overwrite if the frames of "
        "this video have changed."
    )
    np.testing.assert_array_equal(FlowFiles(tmp_path / "flow").read("a", 0, 3)[0], before)
    assert run(tmp_path / "others", tmp_path / "flow", "--overwrite") == 0
    assert np.median(FlowFiles(tmp_path / "flow").read("a", 0, 3)[0][:, 0]) == pytest.approx(-4 / 8, rel=0.1)


def test_the_range_of_frames_of_more_than_8_bits(videos, tmp_path):
    # The same motion in 12 bits: 16 * 8-bit value. In the range of 12 bits they are about the frames of 8 bits again.
    for path in (videos / "a").iterdir():
        Image.fromarray(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16).save(path)
    assert run(videos, tmp_path / "flow", "--pixel-range", 0, 4080) == 0
    there = FlowFiles(tmp_path / "flow").read("a", 0, 3)[0]
    np.testing.assert_allclose(np.median(there[:, 0], axis=(1, 2)), 4 / 8, rtol=0.1)
    message = (
        f"error: {tmp_path}/flow/a has flow of frames that were read with --pixel-range 0 4080, not {{}}: choose "
        "another folder, or replace it with --overwrite."
    )
    assert run(videos, tmp_path / "flow") == message.format("without --pixel-range")
    assert run(videos, tmp_path / "flow", "--pixel-range", -1, 4095) == message.format("with --pixel-range -1 4095")
    assert run(videos, tmp_path / "flow", "--pixel-range", 9, 9) == (
        "error: --pixel-range is [9.0, 9.0]; it must be empty, or two numbers of which the first is lower."
    )


def test_parts(videos, tmp_path, capsys):
    (videos / "a").rename(videos / "b")
    write_plain_frames(videos / "a", [1])
    assert run(videos, tmp_path / "flow", "--part", "2/2") == 0
    assert run(videos, tmp_path / "flow", "--part", "1/2") == 1
    for words in ("0/2", "3/2", "2", "a/b"):
        assert run(videos, tmp_path / "flow", "--part", words) == 2
        assert f"argument --part: invalid part value: '{words}'" in capsys.readouterr().err


def test_a_skipped_video_gives_exit_status_1(videos, tmp_path, capsys):
    write_plain_frames(videos / "short", [1])
    assert run(videos, tmp_path / "flow") == 1
    assert "wrote the flow of 1 videos by dis, kept that of 0, skipped 1 videos" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path):
    message = run(tmp_path / "nowhere", tmp_path / "flow")
    assert message.startswith("error: ") and "nowhere" in message and "\n" not in message
    assert not (tmp_path / "flow").exists()


def test_a_file_in_the_place_of_out(videos, tmp_path):
    (tmp_path / "flow").write_text("")
    assert run(videos, tmp_path / "flow").startswith(f"error: {tmp_path}/flow cannot be read or written (File exists)")


def test_options_that_cannot_be_met(videos, tmp_path, capsys):
    assert "no checkpoint" in run(
        videos, tmp_path / "flow", "--estimator", "raft_small", "--weights", tmp_path / "no.pth"
    )
    assert "takes no weights" in run(videos, tmp_path / "flow", "--weights", "raft.pth")
    assert run(videos, tmp_path / "flow", "--batch", 0) == 2
    assert "argument --batch: 0 is less than 1" in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()
