"""Boxes and statistics under bfloat16 autocast equal those of float32, where detectron2 rounds them."""

import torch
from detectron2.layers import NaiveSyncBatchNorm, ROIAlign, batch_norm
from torch import nn

import configs
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.modeling.float32_parts import Float32ROIAlign, Float32SyncBN, keep_float32

BF16 = torch.autocast("cpu", torch.bfloat16)


def test_boxes_are_pooled_where_they_are():
    torch.manual_seed(0)
    ramp = torch.arange(160.0).expand(1, 1, 100, 160) % 16  # exact in bfloat16
    rois = torch.tensor([[0, 1001.0, 301.0, 1031.0, 333.0], [0, 515.0, 301.0, 531.0, 317.0]])
    pool = ROIAlign((7, 7), 1 / 8, 2, aligned=True)
    exact = pool(ramp, rois)
    with BF16:
        rounded = pool(ramp.bfloat16(), rois).float()
        keep_float32(nn.ModuleList([pool]))
        kept = pool(ramp.bfloat16(), rois)
    assert type(pool) is Float32ROIAlign and kept.dtype == torch.bfloat16
    assert (rounded - exact).abs().max() > 0.1  # a corner moves by a pixel, an eighth of a cell
    assert torch.equal(kept, exact.bfloat16())
    assert torch.equal(pool(ramp, rois), exact)


def test_statistics_over_processes_are_those_of_float32(monkeypatch):
    """Two processes with the same batch; the spread is a tenth of the mean."""
    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda x: 2 * x)
    torch.manual_seed(0)
    images = (5 + 0.5 * torch.randn(4, 8, 16, 16)).bfloat16()
    plain, naive = nn.BatchNorm2d(8).train(), NaiveSyncBatchNorm(8, stats_mode="N").train()
    expected = plain(images.float())
    rounded = naive(images)
    model = nn.Sequential(naive)
    keep_float32(model)
    naive.reset_running_stats()
    kept = model(images)
    assert type(naive) is Float32SyncBN and kept.dtype == torch.bfloat16
    torch.testing.assert_close(kept.float(), expected, atol=0.02, rtol=0.01)
    assert not torch.allclose(rounded.float(), expected, atol=0.2)
    torch.testing.assert_close(naive.running_mean, plain.running_mean, atol=1e-4, rtol=0)


def test_boxes_of_fcos_are_not_rounded():
    cfg = configs.tiny(
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, config="coco/fcos_R_50_FPN_1x.yaml"
    )
    transform = Trainer.build_model(cfg).box2box_transform
    anchors = torch.tensor([[985.5, 485.5, 1013.5, 513.5]])  # a square
    half = torch.full((1, 4), 0.5).bfloat16()  # of the anchor's side, from its centre
    assert torch.equal(transform.apply_deltas(half, anchors), anchors)


def test_a_detector_pools_at_exact_boxes():
    model = Trainer.build_model(configs.tiny(config="voc/faster_rcnn_R_18_FPN_small.yaml"))
    pools = [module for module in model.modules() if isinstance(module, ROIAlign)]
    assert pools and all(type(module) is Float32ROIAlign for module in pools)
