"""The methods in several processes: half a batch in each of two is the whole batch in one."""

import pytest
import torch
from distributed_helpers import in_processes
from method_helpers import NO_NORM, crops, share, train, train_each

from pixpro_d2.modeling.pretrain.methods import METHODS, PixelMethod

PIXCONTRAST = ("MODEL.PIXPRO.METHOD", "pixcontrast")
DENSECL = ("MODEL.PIXPRO.METHOD", "densecl", "MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 11)
SLOTS = ("INPUT.PIXPRO.MIN_OVERLAP", 0.01, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 6)
SLOTCON = ("MODEL.PIXPRO.METHOD", "slotcon", *SLOTS)
INFONCE = ("MODEL.PIXPRO.INSTANCE.WEIGHT", 0.5, "MODEL.PIXPRO.INSTANCE.LOSS", "infonce")
PIXPRO = ("MODEL.PIXPRO.MEAN_OVER", "matched", *INFONCE)
# name -> (opts, batches); which images match is uneven between the processes wherever that could matter
RUNS = {
    "pixcontrast": ((*NO_NORM, *PIXCONTRAST), [crops([1, 1, 1, 0], seed=i) for i in range(2)]),
    "one without pairs": ((*NO_NORM, *PIXCONTRAST), [crops([1, 1, 0, 0]), crops([0, 0, 1, 0])]),
    "no pairs anywhere": ((*NO_NORM, *PIXCONTRAST), [crops([0, 0, 0, 0])]),
    "pixpro matched and infonce": ((*NO_NORM, *PIXPRO), [crops([0, 1, 1, 1], seed=i) for i in range(2)]),
    "densecl": ((*NO_NORM, *DENSECL), [crops([1, 1, 1, 0], seed=i) for i in range(3)]),
    "slotcon": ((*NO_NORM, *SLOTCON), [crops([1, 1, 1, 0], seed=i) for i in range(3)]),
    "slotcon, one without overlap": ((*NO_NORM, *SLOTCON), [crops([1, 1, 0, 0])]),
    "slotcon synced": (SLOTCON, [crops([1, 1, 1, 0])]),
    "pixcontrast synced": ((*PIXCONTRAST, *INFONCE), [crops([1, 1, 1, 0])]),
}


@pytest.fixture(scope="module")
def in_two(tmp_path_factory):
    """What both of two processes return for all runs."""
    return in_processes(tmp_path_factory.mktemp("two"), train_each, RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(in_two, name):
    whole = train(*RUNS[name])
    tolerance = {"atol": 1e-4, "rtol": 1e-3} if "synced" in name else {"atol": 1e-6, "rtol": 1e-4}
    if "slotcon" in name:  # two temperatures of 0.1 and less make gradients, and their rounding, ten times as large
        tolerance = {key: 10 * value for key, value in tolerance.items()}
    for half in (in_two[0][name], in_two[1][name]):
        assert half["losses"] == [pytest.approx(losses, abs=1e-5) for losses in whole["losses"]]
        torch.testing.assert_close(half["gradients"], whole["gradients"], **tolerance)
        torch.testing.assert_close(half["buffers"], whole["buffers"], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixcontrast", "one without pairs", "pixpro matched and infonce", "slotcon"])
def test_the_mean_of_two_separate_halves_is_another(name):
    """What processes that know nothing of each other would give: unequal counts of images, fewer negatives."""
    opts, batches = RUNS[name]
    whole = train(opts, batches[:1])["losses"][0]
    halves = [train(opts, [share(batches[0], rank, 2)])["losses"][0] for rank in range(2)]
    for loss in whole:
        assert abs(sum(half[loss] for half in halves) / 2 - whole[loss]) > 1e-3


@pytest.mark.slow
def test_no_pairs_anywhere_give_no_gradient(in_two):
    run = in_two[0]["no pairs anywhere"]
    assert run["losses"] == [{"loss_pix_res5": 0}]
    assert run["gradients"] and not any(gradient.any() for gradient in run["gradients"].values())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_a_pixel_method_that_a_config_chooses(name):
    opts = ("MODEL.PIXPRO.METHOD", name, "MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 5, *SLOTS)
    assert issubclass(METHODS[name], PixelMethod)
    run = train(opts, [crops([1, 1])])
    assert list(run["losses"][0]) == ["loss_pix_res5"] and run["losses"][0]["loss_pix_res5"] != 0
    assert any(gradient.any() for gradient in run["gradients"].values())
