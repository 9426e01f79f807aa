"""Pictures during training, and that training does not notice."""

import logging
import os
import shutil

import numpy as np
import pytest
import torch
from data_helpers import logged, write_images
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from distributed_helpers import in_processes
from PIL import Image

import configs
from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.samples import load_samples
from pixpro_d2.engine import Trainer, pictures
from pixpro_d2.engine.pictures import PictureHook, build_picture_hook, fixed_subjects
from pixpro_d2.extras.scenes.video_scene import render_clip
from pixpro_d2.extras.scenes.writers.video import write_frames
from pixpro_d2.visualization.motion import picture_flow
from pixpro_d2.visualization.views import ViewSource

NAMES = [f"{what}_{i}" for what in ("attention", "matches") for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "images"
    write_images(folder, 8, size=(90, 120))
    return folder


def config(images, folder, *opts):
    one_level = "MODEL.PIXPRO.IN_FEATURES", ["p4"]
    return configs.tiny("DATASETS.TRAIN", (f"images:{images}",), "OUTPUT_DIR", str(folder), *one_level, *opts)


def with_period(cfg, period):
    cfg = cfg.clone()
    cfg.VIS_PERIOD = period
    return cfg


class Pictured(Trainer):
    """Trains with pictures every two iterations."""

    def build_hooks(self):
        built = super().build_hooks()
        built.insert(3, build_picture_hook(with_period(self.cfg, 2), self.checkpointer.model))
        return built


def train(kind, cfg, resume=False):
    torch.manual_seed(1)
    trainer = kind(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def names(folder):
    return sorted(path.name for path in (folder / "vis").iterdir())


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """(folder, trainer) of a run of three iterations with pictures, and of one without."""
    found = []
    for kind in (Pictured, Trainer):
        folder = tmp_path_factory.mktemp(kind.__name__)
        opts = ["SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.METRICS_PERIOD", 1]
        found.append((folder, train(kind, config(images, folder, *opts))))
    return found


def test_training_does_not_notice(runs):
    (_, pictured), (_, plain) = runs
    ours, theirs = (trainer.checkpointer.model.state_dict() for trainer in (pictured, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    losses = [trainer.storage.history("total_loss").values() for trainer in (pictured, plain)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_files_of_every_period_and_of_the_end(runs):
    (folder, _), (other, _) = runs
    expected = [f"{name}_{i:07d}.png" for name in [*NAMES, "features"] for i in (1, 2)]
    expected += [f"pairs_{i}_0000000.png" for i in (1, 2, 3)]
    assert names(folder) == sorted(expected)
    assert all(Image.open(folder / "vis" / name).width <= 1200 for name in expected)
    assert not (other / "vis").exists()


def test_pictures_change_as_the_model_does_but_not_their_views(runs):
    folder = runs[0][0] / "vis"
    first, last = (np.asarray(Image.open(folder / f"attention_1_{i:07d}.png")).astype(int) for i in (1, 2))
    assert np.array_equal(first[:250, :236], last[:250, :236])  # the view itself
    assert np.abs(first - last)[:250, 236:].max() > 3


def test_a_resumed_run_draws_what_the_straight_one_draws(runs, images, tmp_path):
    """After iteration 1; the colours of the features hang on those that its last picture had."""
    straight = runs[0][0]
    shutil.copy(straight / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    opts = ["SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.METRICS_PERIOD", 1]
    train(Pictured, config(images, tmp_path, *opts), resume=True)
    later = [f"{name}_0000002.png" for name in [*NAMES, "features"]]
    assert names(tmp_path) == sorted([*later, *(f"pairs_{i}_0000002.png" for i in (1, 2, 3))])
    for name in later:
        assert (tmp_path / "vis" / name).read_bytes() == (straight / "vis" / name).read_bytes(), name


class Drawing(HookBase):
    """What a hook needs of a trainer."""

    def __init__(self, start=0, max_iter=10):
        self.iter = self.start_iter = start
        self.max_iter, self.storage = max_iter, EventStorage(start)
        self.images = {}
        self.storage.put_image = lambda name, image: self.images.update({name: image})


def hook_of(cfg, trainer, period=1):
    hook = build_picture_hook(with_period(cfg, period), build_model(cfg).train())
    hook.trainer = trainer
    return hook


def test_images_for_tensorboard(images, tmp_path):
    trainer = Drawing()
    hook = hook_of(config(images, tmp_path), trainer)
    hook.before_train()
    assert list(trainer.images) == ["pairs_1", "pairs_2", "pairs_3"]
    hook.after_step()
    assert sorted(trainer.images) == sorted([*NAMES, "features", "pairs_1", "pairs_2", "pairs_3"])
    for name, image in trainer.images.items():
        (path,) = (tmp_path / "vis").glob(f"{name}_0000000.png")
        assert image.dtype == torch.uint8
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))


def test_an_image_that_can_no_longer_be_read_costs_its_picture(images, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(images, own)
    trainer = Drawing()
    hook = hook_of(config(own, tmp_path), trainer)
    gone = hook.subjects[1].sample["file_name"]
    os.remove(gone)
    with logged("pixpro_d2") as messages:
        hook.before_train()
    assert sorted(trainer.images) == [
        f"pairs_{i + 1}" for i, x in enumerate(hook.subjects) if x.sample["file_name"] != gone
    ]
    assert any(f"There will be no picture of {gone}" in message for message in messages)


def test_a_run_that_is_done_draws_nothing_anew(images, tmp_path):
    trainer = Drawing(start=10)
    hook_of(config(images, tmp_path), trainer).before_train()
    assert not trainer.images and not (tmp_path / "vis").exists()


def test_of_videos_the_flow_is_drawn_when_the_run_starts(tmp_path):
    write_frames(tmp_path / "videos/long", render_clip(np.random.default_rng(0), 8, 64, 96))
    opts = ["DATASETS.TRAIN", (f"video:{tmp_path}/videos",), "OUTPUT_DIR", str(tmp_path)]
    cfg = configs.tiny(*opts, config="pretrain/pixpro_video_quickstart.yaml")
    trainer = Drawing()
    hook_of(cfg, trainer).before_train()
    assert sorted(trainer.images) == [f"{name}_{i}" for name in ("flow", "pairs") for i in (1, 2, 3)]
    source = ViewSource(cfg)
    subject = fixed_subjects(source, load_samples(cfg), 1, cfg.SEED)[0]
    expected = np.asarray(picture_flow(source, subject.dataset_dict, subject.sample))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "vis/flow_1_0000000.png")), expected)


def test_other_processes_take_part_but_do_not_draw(images, tmp_path, monkeypatch):
    trainer, compared = Drawing(), []
    hook = hook_of(config(images, tmp_path), trainer)
    original = pictures.compare_views
    monkeypatch.setattr(pictures, "compare_views", lambda *args: compared.append(1) or original(*args))
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    hook.before_train(), hook.after_step()
    assert len(compared) == 2 and not trainer.images and not (tmp_path / "vis").exists()
    trainer.iter, hook.period = 4, 2
    hook.after_step()
    assert len(compared) == 2  # five iterations are no period


def test_a_picture_that_cannot_be_written_ends_no_run(images, tmp_path):
    (tmp_path / "vis").write_text("in the way")
    trainer = Drawing()
    hook = hook_of(config(images, tmp_path), trainer)
    with logged("pixpro_d2") as messages:
        hook.after_step()
    assert "features" in trainer.images and any("features_0000000.png could not be written" in m for m in messages)


def test_without_propagation_module_there_is_no_attention(images, tmp_path):
    trainer = Drawing()
    hook_of(config(images, tmp_path, "MODEL.PIXPRO.PPM.ENABLED", False), trainer).after_step()
    assert sorted(trainer.images) == ["features", "matches_1", "matches_2", "matches_3"]


def test_a_vision_transformer_without_a_pyramid(images, tmp_path):
    """The pairs are those of its patches: 4 x 4 of 16 pixels; the name of its feature does not tell their size."""
    opts = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "vit_tiny_patch16_224"]
    trainer = Drawing()
    hook = hook_of(config(images, tmp_path, *opts, "MODEL.PIXPRO.IN_FEATURES", ["last_feat"]), trainer)
    hook.before_train()
    same = hook_of(config(images, tmp_path / "same", "MODEL.PIXPRO.IN_FEATURES", ["p4"]), Drawing())
    same.before_train()
    assert torch.equal(trainer.images["pairs_1"], same.trainer.images["pairs_1"])


def test_the_instance_branch_alone_has_no_pictures(images, tmp_path):
    cfg = config(images, tmp_path, "MODEL.PIXPRO.IN_FEATURES", [], "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0)
    with logged("pixpro_d2") as messages:
        assert build_picture_hook(with_period(cfg, 1), build_model(cfg)) is None
    assert sum("VIS_PERIOD has no pictures" in message for message in messages) == 1


def test_subjects_are_spread_and_readable(images, tmp_path, caplog):
    source = ViewSource(config(images, tmp_path))
    good = [{"file_name": str(path)} for path in sorted(images.iterdir())]
    subjects = fixed_subjects(source, good, 3, 0)
    chosen = [good.index(subject.dataset_dict) for subject in subjects]
    assert len(set(chosen)) == 3 and max(chosen) - min(chosen) >= 4
    (tmp_path / "bad.jpg").write_text("not an image")
    mixed = [dict(image) for image in good]
    mixed[chosen[0]] = {"file_name": str(tmp_path / "bad.jpg")}
    with caplog.at_level(logging.WARNING):
        found = fixed_subjects(source, mixed, 3, 0)
    assert len(found) == 3 and all("bad" not in subject.dataset_dict["file_name"] for subject in found)
    assert "There will be no pictures of" in caplog.text
    one = fixed_subjects(source, good[:1], 3, 0)
    assert len({subject.sample["boxes"].tobytes() for subject in one}) == 3  # other views of the same image
    assert fixed_subjects(source, [{"file_name": str(tmp_path / "bad.jpg")}], 3, 0) == []


def subjects_of(folder, unreadable):
    """File names of the subjects of a process that cannot read the images whose names end with one of a tuple.

    Args:
        folder (Path): of the images.
        unreadable (list[tuple[str]]): by rank.
    """
    source = ViewSource(config(folder, folder))
    original = source.mapper

    def read(image, rng):
        if image["file_name"].endswith(unreadable[comm.get_rank()]):
            raise UnreadableImage(image["file_name"])
        return original(image, rng)

    source.mapper = read
    images = [{"file_name": str(path)} for path in sorted(folder.iterdir())]
    return [subject.dataset_dict["file_name"] for subject in fixed_subjects(source, images, 3, 0)]


@pytest.mark.parametrize("broken, count", [(["2.png"], 3), ([".png"], 0)])
def test_processes_agree_on_the_subjects(images, tmp_path, broken, count):
    """Those that one process cannot read are left out by all, and if none is left, none has any."""
    alone = subjects_of(images, [()])
    assert len(alone) == 3 and any(name.endswith(broken[0]) for name in alone)
    first, second = in_processes(tmp_path / "meet", subjects_of, images, [(), tuple(broken)])
    assert first == second and len(first) == count
    assert not any(name.endswith(broken[0]) for name in first)


def test_colours_go_on_where_a_checkpoint_has_them(images, tmp_path):
    cfg = config(images, tmp_path)
    trainer = Drawing()
    hook = hook_of(cfg, trainer)
    assert hook.state_dict() == {}
    hook.after_step()
    first = trainer.images["features"]
    torch.save(hook.state_dict(), tmp_path / "state.pth")
    colours = torch.load(tmp_path / "state.pth", weights_only=True)["colours"]
    for sign, same in ((1, True), (-1, False)):
        resumed = PictureHook(hook.model, hook.source, hook.subjects, "p4", 1, str(tmp_path / "vis"))
        resumed.load_state_dict({"colours": {level: sign * value for level, value in colours.items()}})
        resumed.trainer = trainer
        resumed.after_step()
        difference = (trainer.images["features"].int() - first.int()).abs()
        assert difference.max() <= 1 if same else difference.max() > 100
