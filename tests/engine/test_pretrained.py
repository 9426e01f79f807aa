"""The model of a file: what it lacks is said, and what it has stays."""

import torch

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
