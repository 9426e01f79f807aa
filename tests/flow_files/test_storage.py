"""Files of optical flow: this project's, and those of the reference."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from flow_helpers import SIZE, Payload, flow, write_native

from pixpro_d2.flow_files import FlowFiles, write_flow
from pixpro_d2.flow_files.native import FlowInfo, fingerprint, stream_flow
from pixpro_d2.utils.errors import UsageError


def write_reference(root, video, forward, backward, **options):
    """As the reference's own writer: the backward flow starts with the last pair of frames."""
    for name, steps in (("forward", forward), ("backward", backward[::-1].copy())):
        (root / name).mkdir(parents=True, exist_ok=True)
        torch.save(torch.tensor(steps), root / name / f"{video}.pth", **options)


@pytest.fixture(params=[write_native, write_reference], ids=["native", "reference"])
def files(request, tmp_path):
    """FlowFiles of one video "a" in either layout, with its forward and backward flow."""
    forward, backward = flow()
    request.param(tmp_path / "flow", "a", forward, backward)
    return FlowFiles(tmp_path / "flow"), forward, backward


def test_steps_come_in_order_of_use(files):
    files, forward, backward = files
    # Six frames. From frame 1, two steps: 1 -> 2, 2 -> 3, and back 3 -> 2, 2 -> 1, which are backward[2], backward[1].
    there, back = files.read("a", 1, 2)
    assert there.dtype == back.dtype == np.float16 and there.flags.c_contiguous and back.flags.c_contiguous
    np.testing.assert_array_equal(there, [forward[1], forward[2]])
    np.testing.assert_array_equal(back, [backward[2], backward[1]])
    there, back = files.read("a", 0, 5)
    np.testing.assert_array_equal(there, forward)
    np.testing.assert_array_equal(back, backward[[4, 3, 2, 1, 0]])
    there, back = files.read("a", 4, 1)
    np.testing.assert_array_equal(there, forward[4:])
    np.testing.assert_array_equal(back, backward[4:])
    assert torch.from_numpy(back).shape == (1, 2, 2, 3)  # nothing that torch refuses, as negative strides


def test_slices_of_the_reference_layout(tmp_path):
    # What the reference slices out of its own files, for start 1 and 2 steps of N = 5: forward [1, 3), backward [2, 4).
    write_reference(tmp_path, "a", *flow())
    there, back = FlowFiles(tmp_path).read("a", 1, 2)
    forward, backward = (torch.load(tmp_path / name / "a.pth").numpy() for name in ("forward", "backward"))
    np.testing.assert_array_equal(there, forward[1:3])
    np.testing.assert_array_equal(back, backward[2:4])


@pytest.mark.parametrize("write", [write_native, write_reference])
def test_constant_flow_there_and_back_cancels(tmp_path, write):
    # Each step moves the whole frame, by its own amount: only the matching steps back undo it.
    speed = np.array([[1, 0], [2, 0], [4, 1], [8, -3], [16, 5]], np.float32)
    forward = np.broadcast_to(speed[:, :, None, None], (5, 2, 2, 3))
    write(tmp_path / "flow", "a", forward, -forward)
    files = FlowFiles(tmp_path / "flow")
    for start in range(5):
        for steps in range(1, 6 - start):
            there, back = files.read("a", start, steps)
            np.testing.assert_array_equal(there.sum(0), forward[start : start + steps].sum(0))
            np.testing.assert_array_equal(there.sum(0), -back.sum(0))
            np.testing.assert_array_equal(there, -back[::-1])


@pytest.mark.parametrize(("start", "steps"), [(0, 6), (4, 2), (-1, 2), (5, 1), (2, 0)])
def test_steps_out_of_range(files, start, steps):
    files = files[0]
    with pytest.raises(UsageError, match=r"(forward\.npy|forward.a\.pth) has 5 steps"):
        files.read("a", start, steps)


def test_the_flow_of_a_video_passes_its_check(files):
    files = files[0]
    files.check("a", 6)
    files.check("a", 6, SIZE)
    files.check("a", 6, list(SIZE))


@pytest.mark.parametrize("frames", [5, 7, 1])
def test_a_wrong_number_of_steps_is_named(files, frames):
    with pytest.raises(UsageError, match=rf"forward.* has 5 steps, but the video 'a' has {frames} frames"):
        files[0].check("a", frames, SIZE)


@pytest.mark.parametrize("size", [(24, 16), (17, 24), (16, 16)])
def test_a_wrong_frame_size_is_named(files, size):
    with pytest.raises(UsageError, match=rf"forward.* does not fit the video 'a'.*{size[0]} x {size[1]}"):
        files[0].check("a", 6, size)


def test_missing_files_are_named(files, tmp_path):
    files = files[0]
    with pytest.raises(UsageError, match="There is no file of optical flow .*(b.forward|forward.b).*extract_flow"):
        files.check("b", 6)
    with pytest.raises(UsageError, match="There is no file of optical flow .*(b.forward|forward.b)"):
        files.read("b", 0, 1)
    with pytest.raises(UsageError, match="no folder of optical flow .*nowhere"):
        FlowFiles(tmp_path / "nowhere")


def test_directions_of_two_videos_are_told(tmp_path):
    for i, name in enumerate(("a", "b")):
        write_native(tmp_path, name, *flow(i, steps=4 + i))
    shutil.copy(tmp_path / "b/backward.npy", tmp_path / "a/backward.npy")
    with pytest.raises(UsageError, match=r"a/forward\.npy and .*a/backward\.npy are not of one video"):
        FlowFiles(tmp_path).read("a", 0, 1)


def test_flow_of_another_video_is_told(tmp_path):
    write_native(tmp_path, "a", *flow())
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # as long, of the same size
    files = FlowFiles(tmp_path)
    files.check("a", 6, SIZE)
    with pytest.raises(UsageError, match=r"does not fit the video 'b': .*b/flow\.json .*describes something else"):
        files.check("b", 6, SIZE)
    os.remove(tmp_path / "a/flow.json")
    with pytest.raises(UsageError, match=r"a/flow\.json is missing"):
        files.check("a", 6, SIZE)


@pytest.mark.parametrize("keep", [0, 6, 60, 200])
@pytest.mark.parametrize("name", ["forward.npy", "backward.npy"])
def test_a_truncated_file_is_named(tmp_path, name, keep):
    write_native(tmp_path, "a", *flow())
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[:keep])
    for use in (lambda files: files.read("a", 0, 1), lambda files: files.check("a", 6)):
        with pytest.raises(UsageError, match=rf"a/{name} is damaged .*extract_flow"):
            use(FlowFiles(tmp_path))


@pytest.mark.parametrize(
    "array", [np.zeros((5, 3, 2, 3)), np.zeros((5, 2, 6)), np.zeros((5, 2, 2, 3), int)], ids=["channels", "3d", "int"]
)
def test_other_arrays_are_no_flow(tmp_path, array):
    write_native(tmp_path / "native", "a", *flow())
    np.save(tmp_path / "native/a/forward.npy", array)
    write_reference(tmp_path / "reference", "a", *flow())
    torch.save(torch.from_numpy(array), tmp_path / "reference/forward/a.pth")
    for root, name in (("native", r"a/forward\.npy"), ("reference", r"forward/a\.pth")):
        with pytest.raises(UsageError, match=f"{name} is no optical flow"):
            FlowFiles(tmp_path / root).read("a", 0, 1)


def test_pickles_are_refused(tmp_path):
    trap = tmp_path / "trap"
    write_native(tmp_path / "native", "a", *flow())
    np.save(tmp_path / "native/a/forward.npy", np.array([Payload(trap)]), allow_pickle=True)
    write_reference(tmp_path / "reference", "a", *flow())
    torch.save(Payload(trap), tmp_path / "reference/forward/a.pth")
    write_reference(tmp_path / "old", "a", *flow())
    (tmp_path / "old/forward/a.pth").write_bytes(pickle.dumps(Payload(trap), protocol=2))
    with pytest.raises(UsageError, match=r"a/forward\.npy is damaged"):
        FlowFiles(tmp_path / "native").read("a", 0, 1)
    for root in ("reference", "old"):
        with pytest.raises(UsageError, match=r"forward/a\.pth was not read"):
            FlowFiles(tmp_path / root).read("a", 0, 1)
    assert not trap.exists()
    torch.load(tmp_path / "reference/forward/a.pth", weights_only=False)
    assert trap.exists()  # so the trap was a trap


@pytest.mark.parametrize(
    "content", [b"", b"no tensor", {"flow": torch.zeros(5, 2, 2, 3)}], ids=["empty", "text", "dict"]
)
def test_damaged_reference_files_are_named(tmp_path, content):
    write_reference(tmp_path, "a", *flow())
    path = tmp_path / "backward/a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UsageError, match=r"backward/a\.pth was not read"):
        FlowFiles(tmp_path).read("a", 0, 1)


def test_reference_files_of_old_pytorch(tmp_path):
    forward, backward = flow()
    write_reference(tmp_path, "a", forward, backward, _use_new_zipfile_serialization=False)
    there, back = FlowFiles(tmp_path).read("a", 3, 2)
    np.testing.assert_array_equal(there, forward[3:])
    np.testing.assert_array_equal(back, backward[[4, 3]])


def test_videos_may_be_called_forward_and_backward(tmp_path):
    both = flow(0), flow(1)
    for name, directions in zip(("forward", "backward"), both):
        write_native(tmp_path, name, *directions)
    files = FlowFiles(tmp_path)
    for name, directions in zip(("forward", "backward"), both):
        np.testing.assert_array_equal(files.read(name, 0, 5)[0], directions[0])


def test_only_the_steps_in_use_are_read(tmp_path):
    # A sparse file of 64 GB, which would not fit into memory.
    info = FlowInfo("a", 2**20 + 1, (1024, 1024), (128, 128), "exact")
    write_native(tmp_path, "a", *flow())
    for name in ("forward.npy", "backward.npy"):
        with open(tmp_path / "a" / name, "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": info.shape})
            file.truncate(file.tell() + info.num_bytes // 2)
    there, back = FlowFiles(tmp_path).read("a", 2**19, 3)
    assert there.shape == back.shape == (3, 2, 128, 128) and not there.any()


def test_files_can_be_sent_to_a_worker(files):
    files, forward, _ = files
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(files)).read("a", 0, 5)[0], forward)


def test_videos_are_listed_without_opening_them(tmp_path):
    for name in ("a", "b"):
        write_native(tmp_path / "native", name, *flow())
        write_reference(tmp_path / "reference", name, *flow())
        (tmp_path / "native" / name / "forward.npy").write_bytes(b"")
        (tmp_path / "reference/forward" / f"{name}.pth").write_bytes(b"")
    (tmp_path / "native/.c.partial").mkdir()
    (tmp_path / "native/manifest.json").write_text("{}")
    (tmp_path / "reference/forward/c.pth").write_bytes(b"")  # without its other half
    for root in ("native", "reference"):
        assert FlowFiles(tmp_path / root).videos == {"a", "b"}
        assert FlowFiles(tmp_path / root).skipped == {}


def test_frames_of_another_video_are_told(tmp_path):
    videos = {}
    first, last = "12345", "6789"  # together what CRC-32 is known to give CBF43926 for
    contents = {"a": (first, "x", last), "b": (first, "x", "y"), "c": ("y", "x", last), "d": (first, "y", last)}
    for name, frames in contents.items():
        (tmp_path / name).mkdir()
        videos[name] = [str(tmp_path / name / f"{i}.jpg") for i in range(3)]
        for path, content in zip(videos[name], frames):
            with open(path, "w") as file:
                file.write(content)
    assert fingerprint(videos["a"]) == "cbf43926"
    for root, mark in (("flow", fingerprint(videos["a"])), ("unmarked", None)):
        write_flow(tmp_path / root, "a", *flow(steps=2), SIZE, "exact", mark)
    files = FlowFiles(tmp_path / "flow")
    for name in ("a", "d"):  # the frame in the middle is not looked at
        files.check("a", 3, SIZE, videos[name])
    files.check("a", 3, SIZE)
    for name in ("b", "c"):
        with pytest.raises(
            UsageError, match=f"does not fit the video 'a': it is of other frames than those in .*/{name};"
        ):
            files.check("a", 3, SIZE, videos[name])
        FlowFiles(tmp_path / "unmarked").check("a", 3, SIZE, videos[name])
    # With the folder of its frames, another folder is told from changed frames.
    stream_flow(
        tmp_path / "placed",
        FlowInfo("a", 3, SIZE, (2, 3), "exact", "cbf43926", str(tmp_path / "a")),
        [flow(steps=2)],
    )
    files = FlowFiles(tmp_path / "placed")
    files.read("a", 0, 2, 3, SIZE, videos["d"])  # moved
    with pytest.raises(UsageError, match=f"it is of the frames in {tmp_path}/a, not of those in {tmp_path}/b; make"):
        files.read("a", 0, 2, 3, SIZE, videos["b"])
    with open(videos["a"][2], "w") as file:
        file.write("new")
    with pytest.raises(UsageError, match=f"it is of other frames than those in {tmp_path}/a; make"):
        files.check("a", 3, SIZE, videos["a"])
    files.read("a", 0, 2, 3, SIZE)


def test_a_check_while_reading(files):
    files, forward, _ = files
    np.testing.assert_array_equal(files.read("a", 1, 2, 6, SIZE)[0], forward[1:3])
    with pytest.raises(UsageError, match="has 5 steps, but the video 'a' has 7 frames"):
        files.read("a", 1, 2, 7, SIZE)
    with pytest.raises(UsageError, match="does not fit the video 'a'.*17 x 24"):
        files.read("a", 1, 2, 6, (17, 24))
