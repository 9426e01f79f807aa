"""Every pre-training config, with the sizes made small, trains for an iteration."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from distillation_helpers import save_script

import configs
from pixpro_d2.data.pretrain.loader import build_view_loader
from pixpro_d2.extras.scenes.render_video import render_videos

PRETRAIN = sorted((configs.CONFIGS / "pretrain").glob("**/*.yaml"))
SMALL = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 64]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folder of rendered ``frames`` and their ``flow``."""
    folder = tmp_path_factory.mktemp("configs")
    render_videos(folder, 4, frames=7, size=(64, 96), flow_scale=8, labelled=0, arrays=False)
    return folder


@pytest.mark.parametrize(
    "path", [p for p in PRETRAIN if "Base" not in p.name], ids=lambda path: f"{path.parent.stem}/{path.stem}"
)
def test_one_iteration(path, videos, tmp_path):
    torch.manual_seed(0)
    opts = ("MODEL.PIXPRO.DISTILL.TEACHER", save_script(tmp_path / "teacher.pt")) if "distill" in path.name else ()
    cfg = configs.tiny(*SMALL, *opts, config=str(path.relative_to(configs.CONFIGS)))
    model = build_model(cfg)
    batch = _batch_of_videos(cfg, videos) if cfg.INPUT.PIXPRO.N_FRAMES else _batch_of_images()
    before = [p.clone() for p in model.parameters()]
    with EventStorage(0):
        losses = model(batch)
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    torch.optim.SGD([p for p in model.parameters() if p.grad is not None], lr=0.1).step()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert bool(without) == model.has_unused_parameters
    moved = sum(not torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert moved > 20


def _batch_of_images():
    views = torch.randint(0, 256, (4, 2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20, 200, 180], [190, 30, 20, 200]]).expand(4, 2, 4)
    return {"views": views, "boxes": boxes, "image_sizes": torch.tensor([[220, 240]] * 4)}


def _batch_of_videos(cfg, videos):
    """The first of the config's own loader, on rendered frames and, where it reads flow, theirs."""
    cfg.DATASETS.TRAIN = (f"video:{videos / 'frames'}",)
    several = cfg.INPUT.PIXPRO.N_FRAMES > 1
    reads = bool(cfg.MODEL.PIXPRO.FLOW.FILES)
    if reads:
        cfg.MODEL.PIXPRO.FLOW.FILES = str(videos / "flow")
    batch = next(iter(build_view_loader(cfg)))
    assert ("flow_there" in batch) == (several and reads) and ("frames" in batch) == (several and not reads)
    return batch


@pytest.mark.parametrize("path", [p for p in PRETRAIN if p.stem.endswith("ep")], ids=lambda path: path.stem)
def test_kept_checkpoints_are_due_ones(path):
    """Otherwise a run keeps others than the recipe's, such as one that was due by time."""
    solver = configs.load_config(str(path), []).SOLVER
    assert solver.CHECKPOINT_KEEP_EVERY > 0 and solver.CHECKPOINT_KEEP_EVERY % solver.CHECKPOINT_PERIOD == 0


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_bdd100k(frames):
    """The recipe of the paper, for 70000 videos."""
    path = configs.CONFIGS / "pretrain" / f"pixpro_bdd100k_{frames}frames_2000ep.yaml"
    cfg = configs.load_config(str(path), [])
    assert frames == cfg.INPUT.PIXPRO.N_FRAMES and cfg.DATASETS.TRAIN == ("bdd100k_video_train",)
    solver, pixpro = cfg.SOLVER, cfg.MODEL.PIXPRO
    assert (solver.MAX_EPOCHS, solver.WARMUP_EPOCHS, solver.IMS_PER_BATCH, solver.WEIGHT_DECAY) == (2000, 5, 1024, 1e-5)
    assert solver.BASE_LR * solver.IMS_PER_BATCH / solver.LR_REFERENCE_BATCH == 4.0 and solver.OPTIMIZER == "LARS"
    assert (frames == 1) == solver.AMP.ENABLED
    assert (pixpro.POS_RATIO, pixpro.MOMENTUM, pixpro.PPM.NUM_LAYERS, pixpro.PPM.GAMMA) == (0.7, 0.99, 1, 2.0)
    assert pixpro.DISTANCE_UNITS == "pixel" and pixpro.OFFICIAL_ROUNDING
    assert (pixpro.FLOW.CONSISTENCY, pixpro.FLOW.ALPHA1, pixpro.FLOW.ALPHA2) == ("pixel", 0.01, 0.5)
    assert (cfg.INPUT.PIXPRO.CROP_SIZE, cfg.INPUT.PIXPRO.MIN_SCALE, cfg.INPUT.PIXPRO.AUG) == (224, 0.08, "byol")
    assert solver.CHECKPOINT_PERIOD == 10 * (70000 // 1024)
