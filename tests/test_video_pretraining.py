"""Pre-training on rendered video as a user starts it: every source of flow, and mistakes in the data."""

import json
import shutil

import cli
import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from detectron2.modeling import build_model

import configs
from pixpro_d2.extras.scenes.render_video import render_videos
from pixpro_d2.flow_files import FlowFiles, write_flow, write_manifest
from pixpro_d2.modeling.pretrain import pixpro
from pixpro_d2.modeling.pretrain.correspondence import BoxCorrespondence

STEPS = ["SOLVER.MAX_ITER", 2, "SOLVER.METRICS_PERIOD", 1, "INPUT.PIXPRO.STARTS_PER_VIDEO", 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder with ``frames``, four videos of eight frames, and their exact ``flow``."""
    folder = tmp_path_factory.mktemp("video")
    render_videos(folder, 4, frames=8, size=(64, 96), flow_scale=8, labelled=0, arrays=False)
    return folder


def videos(data):
    """Folders of the videos in the folder ``data``, where a run may have left the index of them."""
    return sorted(path for path in (data / "frames").iterdir() if path.is_dir())


def args(data, output, *opts, frames="frames", files="flow"):
    """Words of a run on the videos ``frames``, with the flow ``files`` of the folder ``data``, or estimated."""
    words = ["--config-file", "configs/pretrain/pixpro_video_quickstart.yaml", *configs.TINY]
    words += ["DATASETS.TRAIN", f"('video:{data / frames}',)"]
    words += ["MODEL.PIXPRO.FLOW.FILES", data / files] if files else []
    return [*words, *STEPS, *opts, "OUTPUT_DIR", output]


def run(data, output, *opts, **kwargs):
    """Train; returns the last line of metrics.json, medians over the iterations, and the final checkpoint."""
    cli.run_here(*args(data, output, *opts, **kwargs))
    return cli.metrics(output)[-1], torch.load(output / "model_final.pth", weights_only=True)


def losses(metrics):
    return [metrics[f"loss_pix_p{level}"] for level in (3, 4, 5, 6)]


def is_same(one, other):
    """Whether all weights of two checkpoints are."""
    return all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())


@pytest.fixture(scope="module")
def from_files(data, tmp_path_factory):
    """Output folder of a run of two iterations with a checkpoint after the first, and what :func:`run` returned."""
    folder = tmp_path_factory.mktemp("files")
    return folder, *run(data, folder, "SOLVER.CHECKPOINT_PERIOD", 1)


def test_flow_from_files(from_files):
    _, metrics, _ = from_files
    assert metrics["iteration"] == 1 and np.isfinite(losses(metrics)).all()
    assert 0.5 < metrics["valid_pixels"] < 1 and 0.5 < metrics["displacement"] < 20
    assert metrics["positive_pairs/p3"] > 0 and 0 <= metrics["images_without_pair/p3"] < 1


def test_flow_estimated_while_training(data, tmp_path, from_files):
    """By DIS, which is the default and sees about the motion that was rendered."""
    _, exact, _ = from_files
    metrics, _ = run(data, tmp_path, files=None)
    assert np.isfinite(losses(metrics)).all() and losses(metrics) != losses(exact)
    assert metrics["displacement"] == pytest.approx(exact["displacement"], rel=0.4)
    assert metrics["valid_pixels"] == pytest.approx(exact["valid_pixels"], abs=0.25)


def test_flow_by_raft(data, tmp_path, from_files):
    opts = ["MODEL.PIXPRO.FLOW.ESTIMATOR", "raft_small", "MODEL.PIXPRO.FLOW.WEIGHTS", "random"]
    opts += ["INPUT.PIXPRO.N_FRAMES", 2, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.CHECKPOINT_PERIOD", 1]
    metrics, _ = run(data, tmp_path, *opts, files=None)
    assert np.isfinite(losses(metrics)).all()
    assert 0 <= metrics["valid_pixels"] <= 1 and metrics["displacement"] >= 0
    # What estimates the flow is no part of what is trained and saved.
    saved = [torch.load(x / "model_0000000.pth", weights_only=True) for x in (tmp_path, from_files[0])]
    shapes = [{name: value.shape for name, value in checkpoint["model"].items()} for checkpoint in saved]
    optimizers = [checkpoint["trainer"]["_trainer"]["optimizer"] for checkpoint in saved]
    groups = [[group["params"] for group in optimizer["param_groups"]] for optimizer in optimizers]
    assert shapes[0] == shapes[1] and groups[0] == groups[1]


def test_an_estimator_is_no_module_of_the_model():
    video = ["INPUT.PIXPRO.N_FRAMES", 6, "MODEL.PIXPRO.FLOW.ESTIMATOR", "raft_small", "MODEL.PIXPRO.FLOW.WEIGHTS"]
    with_raft, plain = (build_model(configs.tiny(*opts)) for opts in ([*video, "random"], []))
    network = with_raft.correspondence.estimator.network
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    with_raft.train()
    assert not network.training
    for of in ("state_dict", "named_parameters", "named_modules"):
        names = [list(dict(getattr(model, of)())) for model in (with_raft, plain)]
        assert names[0] == names[1]


def test_single_frames_are_plain_pixpro(data, tmp_path):
    """Videos of one frame at N_FRAMES 1, and the images: the same samples, so the same losses."""
    for i, video in enumerate(videos(data)):
        target = tmp_path / "single" / f"{i}"
        target.mkdir(parents=True)
        shutil.copy(sorted(video.iterdir())[0], target)
    options = ["INPUT.PIXPRO.STARTS_PER_VIDEO", 1]
    options += ["MODEL.PIXPRO.FLOW.ESTIMATOR", "raft_small"]  # which has no weights here, and is not asked for
    video, of_video = run(tmp_path, tmp_path / "1", *options, "INPUT.PIXPRO.N_FRAMES", 1, frames="single", files=None)
    images = ["DATASETS.TRAIN", f"('images:{tmp_path / 'single'}',)", "INPUT.PIXPRO.N_FRAMES", 0]
    plain, of_plain = run(tmp_path, tmp_path / "0", *images, frames="single", files=None)
    assert losses(video) == losses(plain) and is_same(of_video, of_plain)
    assert "valid_pixels" not in video


def test_zero_flow_is_plain_pixpro(data, tmp_path, monkeypatch):
    zero = np.zeros((7, 2, 8, 12), np.float16)
    for video in videos(data):
        write_flow(tmp_path / "zero", video.name, zero, zero, (64, 96), "none")
    followed, one = run(data, tmp_path / "zero_out", files=tmp_path / "zero")
    assert (followed["valid_pixels"], followed["displacement"]) == (1.0, 0.0)
    in_pixels = BoxCorrespondence(0.7, "pixel")
    monkeypatch.setattr(pixpro, "build_correspondence", lambda cfg: in_pixels)
    plain, other = run(data, tmp_path / "plain_out", files=tmp_path / "zero")
    assert losses(followed) == losses(plain) and is_same(one, other)
    assert "valid_pixels" not in plain


def test_swapped_frames(data, tmp_path, from_files):
    """All in reverse: other views, and flow that still belongs to them, both directions being followed anyway."""
    _, in_order, _ = from_files
    swapped, _ = run(data, tmp_path, "INPUT.PIXPRO.SWAP_P", 1.0)
    assert losses(swapped) != losses(in_order)
    assert swapped["displacement"] == pytest.approx(in_order["displacement"], rel=0.3)
    assert swapped["valid_pixels"] == pytest.approx(in_order["valid_pixels"], abs=0.15)


def test_a_resumed_run_equals_the_straight_one(data, tmp_path, from_files):
    folder, _, straight = from_files
    shutil.copy(folder / "model_0000000.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    cli.run_here("--resume", *args(data, tmp_path))
    assert is_same(straight, torch.load(tmp_path / "model_final.pth", weights_only=True))
    assert [line["iteration"] for line in cli.metrics(tmp_path)] == [1]


@pytest.mark.parametrize("files", ["both_flow", None], ids=["files", "dis"])
def test_frames_of_two_sizes_in_a_batch(data, tmp_path, files):
    render_videos(tmp_path / "portrait", 2, frames=8, size=(80, 48), flow_scale=8, labelled=0, arrays=False)
    for kind in ("frames", "flow"):
        for i, folder in enumerate((data, tmp_path / "portrait")):
            for video in ("000000", "000001"):
                target = tmp_path / f"both_{kind}" / f"{i}_{video}"
                shutil.copytree(folder / kind / video, target)
                info = target / "flow.json"
                if info.exists():  # it names its video
                    info.write_text(json.dumps(json.loads(info.read_text()) | {"video": target.name}))
    metrics, _ = run(tmp_path, tmp_path / "out", frames="both_frames", files=files)
    assert np.isfinite(losses(metrics)).all()
    assert metrics["positive_pairs/p3"] > 0 and metrics["valid_pixels"] > 0.3


def missing(root):
    shutil.rmtree(root / "000002")


def of_another_video(root):
    flow = FlowFiles(root).read("000002", 0, 5)
    write_flow(root, "000002", *flow, (64, 96), "exact")


def of_another_size(root):
    flow = FlowFiles(root).read("000002", 0, 7)
    write_flow(root, "000002", *flow, (128, 192), "exact")


def cut_off(root):
    path = root / "000002" / "backward.npy"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "workers", "message"),
    [
        (missing, 0, "1 of 4 videos have no optical flow in .*, the first is .000002.: make it with .*extract_flow"),
        (missing, 1, "1 of 4 videos have no optical flow in .*, the first is .000002.: make it with .*extract_flow"),
        (of_another_video, 0, "flow/000002/forward.npy has 5 steps, but the video '000002' has 8 frames"),
        (of_another_size, 0, "flow/000002/forward.npy does not fit .* frames of 128 x 192 pixels .*, not 64 x 96"),
        (cut_off, 0, "flow/000002/backward.npy is damaged"),
    ],
)
def test_a_mistake_in_the_flow_stops_at_the_first_batch(data, tmp_path, damage, workers, message):
    shutil.copytree(data / "flow", tmp_path / "flow")
    damage(tmp_path / "flow")
    once = ["INPUT.PIXPRO.STARTS_PER_VIDEO", 1, "DATALOADER.NUM_WORKERS", workers]  # so a batch has all four videos
    check_mistake(args(data, tmp_path / "out", *once, files=tmp_path / "flow"), message)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["INPUT.PIXPRO.N_FRAMES", 9], "None of 4 videos has 9 frames, the longest has 8: lower N_FRAMES"),
        (["INPUT.PIXPRO.N_FRAMES", 0], "has videos: set INPUT.PIXPRO.N_FRAMES"),
        (["DATASETS.TRAIN", "('images:{data}/frames',)"], "00001.jpg, which is no video: .* video:DIR"),
        (["DATASETS.TRAIN", "('video:{data}/frames/000000',)"], "no sub-folder of .*000000 has frames"),
        (["DATASETS.TRAIN", "('video:{data}/none',)"], "there is no folder .*/none"),
        (["MODEL.PIXPRO.FLOW.FILES", "{data}/none"], "no folder of optical flow .*/none: make it"),
        (
            ["MODEL.PIXPRO.FLOW.FILES", "", "MODEL.PIXPRO.FLOW.ESTIMATOR", "pwc"],
            "must be dis, raft_small or raft_large",
        ),
        (["MODEL.PIXPRO.FLOW.CONSISTENCY", "strict"], "FLOW.CONSISTENCY is 'strict'; it must be none, pixel,"),
    ],
    ids=["too long", "no frames", "images", "frames of one", "no folder", "no flow", "estimator", "consistency"],
)
def test_mistakes(data, tmp_path, opts, message):
    check_mistake(args(data, tmp_path / "out", *(str(x).format(data=data) for x in opts)), message)


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_videos_of_one_name_in_two_folders(data, tmp_path, split):
    shutil.copytree(data / "frames" / "000001", tmp_path / "other" / "000001")
    names = (
        f"'video:{tmp_path / 'other'}'" if split == "TEST" else f"'video:{data / 'frames'}','video:{tmp_path}/other'"
    )
    message = f"{data}/frames/000001 and {tmp_path}/other/000001 are two videos of one name, but {data}/flow has one "
    check_mistake(args(data, tmp_path / "out", f"DATASETS.{split}", f"({names},)"), message)


def check_mistake(words, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as caught:
        cli.run_here(*words)
    text = caught.value.code  # a text makes the exit status 1
    assert isinstance(text, str) and "\n" not in text and text.endswith(".")
    assert not list(words[-1].glob("*.pth"))


def test_unusable_videos_are_left_out(data, tmp_path):
    shutil.copytree(data / "frames", tmp_path / "frames")
    for frame in (tmp_path / "frames" / "000002").iterdir():
        frame.write_bytes(b"no picture")
    write_images(tmp_path / "frames" / "short", 3, (64, 96))
    (tmp_path / "frames" / "manifest.json").write_text("{}")
    words = args(tmp_path, tmp_path / "out", "DATALOADER.MAX_UNREADABLE", 0.5, files=data / "flow")
    with logged("pixpro_d2") as messages:
        cli.run_here(*words)
    log = " ".join(messages)
    assert "Skipped 1 of 5 videos, shorter than 6 frames" in log
    assert "Skipped an unreadable image (1 so far)" in log and "000002/0000" in log


def test_videos_that_extraction_left_out_are_left_out_of_training(data, tmp_path):
    shutil.copytree(data / "flow", tmp_path / "flow")
    shutil.rmtree(tmp_path / "flow" / "000002")
    write_manifest(tmp_path / "flow", {"000002": "a frame does not decode"})
    with logged("pixpro_d2.data") as messages:
        cli.run_here(*args(data, tmp_path / "out", "SOLVER.MAX_ITER", 1, files=tmp_path / "flow"))
    expected = "Skipped 1 of 4 videos, of which no flow could be made, as a frame does not decode."
    assert [message for message in messages if "Skipped" in message] == [expected]
