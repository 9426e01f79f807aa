"""A batch that two processes share trains as it does in one process: losses and weights, with all that a run has.

What single losses and gradients do is in tests/modeling/pretrain/test_methods.py.
"""

import pytest
import torch
from distributed_helpers import in_processes, train_all
from method_helpers import crops

from configs import NARROW
from pixpro_d2.extras.scenes.render_dataset import render_dataset

pytestmark = pytest.mark.slow

ITERATIONS = 2  # the second one sees the first update of both branches
LENGTH = ["SOLVER.BASE_LR", 0.1, "SOLVER.MAX_ITER", ITERATIONS]
R18 = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, *LENGTH]  # where rounding adds up with depth
SMALL = ["MODEL.RESNETS.DEPTH", 50, *NARROW, *LENGTH]
NO_NORM = ["MODEL.RESNETS.NORM", "", "MODEL.FPN.NORM", "", "MODEL.PIXPRO.NORM", ""]
NO_NORM += ["MODEL.PIXPRO.ZERO_INIT_RESIDUAL", False]
SEPARATE = ["MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN", "MODEL.PIXPRO.NORM", "BN"]
TERMS = ["MODEL.PIXPRO.VARIANCE_WEIGHT", 2.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.08]
PARTS = ["SOLVER.ACCUMULATION_STEPS", 2]

C5, FPN = "pretrain/pixpro_c5_100ep.yaml", "pretrain/quickstart.yaml"
PIXCONTRAST, SIMCLR = "pretrain/pixcontrast_c5_100ep.yaml", "pretrain/simclr_star_c5_100ep.yaml"
SLOTCON = "pretrain/slotcon_quickstart.yaml"
# In the first batch the second process's images have no pairs, in the second one the first process's.
UNMATCHED = [crops([1, 1, 0, 0]), crops([0, 0, 0, 1], seed=1)]

# NaiveSyncBN counts no batches, and its running variance, unlike BN's, is not that of a sample (n instead of n - 1).
OF_ITS_OWN = ("num_batches_tracked", "running_var")

# name -> (config, opts, batches) in two processes
RUNS = {
    "C5": (C5, NO_NORM, None),
    "C5 synced": (C5, [], None),
    "FPN": (FPN, NO_NORM, None),
    "FPN synced": (FPN, [], None),
    "FPN with terms": (FPN, [*NO_NORM, *TERMS], None),
    "FPN in parts": (FPN, [*NO_NORM, *PARTS], None),
    "PixContrast": (PIXCONTRAST, NO_NORM, None),
    "one process without pairs": (PIXCONTRAST, NO_NORM, UNMATCHED),
    "gathered negatives": (SIMCLR, NO_NORM, None),
    "SlotCon": (SLOTCON, [*NO_NORM, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 8], None),
    "FPN separate": (FPN, SEPARATE, None),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Name -> what one process gets, and what each of two does."""
    folder = tmp_path_factory.mktemp("equality")
    render_dataset(folder / "scenes", train=8, test=2, size=96)
    data = ["DATASETS.TRAIN", (f"images:{folder}/scenes/JPEGImages",)]
    runs = {
        name: (config, [*(R18 if "synced" in name else SMALL), *data, *opts], batches)
        for name, (config, opts, batches) in RUNS.items()
    }
    whole = {
        name: (config, [*opts, "SOLVER.ACCUMULATION_STEPS", 1], batches)
        for name, (config, opts, batches) in runs.items()
    }
    first, second = in_processes(folder / "two", train_all, folder, runs, timeout=500)
    alone = train_all(folder, whole)
    return {name: (alone[name], first[name], second[name]) for name in runs}


@pytest.mark.parametrize("name", [name for name in RUNS if name != "FPN separate"])
def test_two_processes_equal_one(results, name):
    alone, *pair = results[name]
    # NaiveSyncBN computes a variance as the difference of two means, with other rounding than BN.
    tolerance = {"atol": 1e-4, "rtol": 1e-3} if "synced" in name else {"atol": 1e-5, "rtol": 1e-4}
    assert pair[0]["losses"].keys() == alone["losses"].keys() and "total_loss" in alone["losses"]
    for loss, values in alone["losses"].items():
        assert len(values) == ITERATIONS and pair[0]["losses"][loss] == pytest.approx(values, abs=1e-5), loss
    for part in pair:
        for tensor, value in alone["model"].items():
            if not tensor.endswith(OF_ITS_OWN):
                torch.testing.assert_close(part["model"][tensor], value, **tolerance, msg=tensor)


def test_norms_that_are_not_synced_give_another_loss(results):
    """Otherwise the equality of synced norms would say nothing."""
    alone, first, _ = results["FPN separate"]
    assert abs(alone["losses"]["total_loss"][0] - first["losses"]["total_loss"][0]) > 1e-3


def test_the_runs_moved_the_weights(results):
    for name, (alone, _, _) in results.items():
        weights = alone["model"]
        stem = next(key for key in weights if key.startswith("backbone.") and key.endswith("stem.conv1.weight"))
        assert (weights[stem] - weights[f"target_{stem}"]).abs().max() > 1e-5, name
