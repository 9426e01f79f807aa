"""The model of a file: what it lacks is said, and what it has stays."""

import torch
from distillation_helpers import save_script

import configs
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.pretrained import load_pretrained


def test_only_what_the_target_lacks_is_copied(tmp_path):
    """A checkpoint without the instance branch that the config has: its target backbone stays as it was trained."""
    trained = Trainer.build_model(configs.tiny())
    with torch.no_grad():
        trained.target_backbone.bottom_up.res5[0].conv1.weight.mul_(-1)
    path = str(tmp_path / "model.pth")
    torch.save({"model": trained.state_dict()}, path)
    cfg = configs.tiny("MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.WEIGHTS", path)
    loaded = load_pretrained(cfg, "", seed=0)
    ours, theirs = loaded.model.state_dict(), trained.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert torch.equal(
        ours["target_backbone.bottom_up.res5.0.conv1.weight"], -ours["backbone.bottom_up.res5.0.conv1.weight"]
    )
    instance = [name for name in ours if name.startswith("target_instance")]
    assert instance and all(
        torch.equal(ours[name], ours[name.replace("target_instance_", "instance.")]) for name in instance
    )
    assert not loaded.copied and "no target branch" not in loaded.note


def test_tools_do_not_need_the_teacher(tmp_path):
    """The checkpoint of a distilled run loads where the teacher's file is not."""
    teacher = ("MODEL.PIXPRO.DISTILL.WEIGHT", 1.0, "MODEL.PIXPRO.PIXEL_WEIGHT", 0.0, "MODEL.PIXPRO.DISTILL.TEACHER")
    trained = Trainer.build_model(configs.tiny(*teacher, save_script(tmp_path / "teacher.pt")))
    path = str(tmp_path / "model.pth")
    torch.save({"model": trained.state_dict()}, path)
    loaded = load_pretrained(configs.tiny(*teacher, "missing/teacher.pt"), path, seed=0)
    assert loaded.model.distillation is None and not loaded.random and not loaded.copied
    ours, theirs = loaded.model.state_dict(), trained.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert {name.split(".")[0] for name in theirs.keys() - ours.keys()} == {"distillation"}
