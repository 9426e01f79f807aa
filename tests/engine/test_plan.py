"""What a config says about its run: keys, epochs, rates."""

import pytest
import torch
from detectron2.config import CfgNode

import configs
from pixpro_d2.engine.dry_run import changed_keys, epoch_of, join_equal, schedule
from pixpro_d2.solver.build import build_lr_scheduler

DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"


def test_changed_keys():
    default = CfgNode({"A": {"B": 1, "C": "x"}, "D": (1, 2), "E": 0})
    cfg = CfgNode({"A": {"B": 2, "C": "x"}, "D": (1, 2), "E": ""})
    assert changed_keys(cfg, default) == ["A.B 2", "E ''"]


def test_equal_keys_share_a_line():
    lines = ["A.NORM 'BN'", "SEED 7", "B.C.NORM 'BN'", "D.NORM 'GN'", "MY_SEED 7"]
    assert join_equal(lines) == ["A.NORM, B.C.NORM 'BN'", "SEED 7", "D.NORM 'GN'", "MY_SEED 7"]


def test_epochs_of_pretraining_leave_out_the_incomplete_batch():
    assert epoch_of(5, 10, configs.tiny()) == 2.5  # 10 images // 4 = 2 iterations an epoch
    assert epoch_of(5, 10, configs.tiny(config=DETECTOR)) == 1.0  # 5 batches of 2


def test_rate_and_momentum_by_hand():
    """Warm-up from a hundredth over 10 of 50 iterations, then half a cosine."""
    opts = ["SOLVER.MAX_ITER", 50, "SOLVER.WARMUP_ITERS", 10, "SOLVER.BASE_LR", 2.0, "SOLVER.BASE_LR_END", 0.0]
    rows = schedule(configs.tiny(*opts, "MODEL.PIXPRO.MOMENTUM", 0.9), num_images=40)
    assert [row[0] for row in rows] == [0, 10, 16, 33, 49]
    by_iteration = {row[0]: row[1:] for row in rows}
    assert by_iteration[0] == pytest.approx([0, 0.02, 0.9 + 0.1 * (1 - 0.998026728) / 2], abs=1e-6)  # cos(pi / 50)
    assert by_iteration[10][1] == pytest.approx(2.0)
    assert by_iteration[16] == pytest.approx([1.6, 1.8910065, 0.9259123], abs=1e-6)  # cos(6 pi / 40), cos(17 pi / 50)
    assert by_iteration[49] == pytest.approx([4.9, 1 - 0.996917334, 1.0], abs=1e-6)  # cos(39 pi / 40)


@pytest.mark.parametrize("name", ["WarmupCosineLR", "WarmupMultiStepLR", "WarmupPolyLR"])
def test_rates_are_those_that_training_has(name):
    opts = ["SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.MAX_ITER", 30, "SOLVER.WARMUP_ITERS", 4, "SOLVER.STEPS", (12, 20)]
    cfg = configs.tiny(*opts, config=DETECTOR)
    assert schedule(configs.tiny(*opts, "SOLVER.WARMUP_ITERS", 100, config=DETECTOR), 10)[-1][0] == 29
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.SOLVER.BASE_LR)
    scheduler, rates = build_lr_scheduler(cfg, optimizer), []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    rows = schedule(cfg, num_images=10)
    assert len(rows) == 4 + 1 and all(len(row) == 3 for row in rows)
    assert [rate for _, _, rate in rows] == pytest.approx([rates[iteration] for iteration, _, _ in rows])
