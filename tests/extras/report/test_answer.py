"""Whether pre-trained weights beat random weights."""

import copy

import pytest
from report_helpers import CONFIG, write_run

from pixpro_d2.extras.report.answer import _is_clear, better_than_random
from pixpro_d2.extras.report.runs import read_run

TRAINED, RANDOM = "output/first/model_final.pth", ""


def task_run(tmp_path, weights, score, metric="sem_seg/mIoU", iteration=199, more=(), **keys):
    """A run of 200 iterations with ``more`` lines of metrics.json, and config keys, __ for the dot."""
    config = copy.deepcopy(CONFIG)
    config["MODEL"] |= {"META_ARCHITECTURE": "SemanticSegmentor", "WEIGHTS": weights}
    for path, value in keys.items():
        *parts, last = path.split("__")
        node = config
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    name = str(len(list(tmp_path.iterdir())))
    lines = [{"iteration": iteration, "total_loss": 1.0, metric: score}, *more]
    return read_run(write_run(tmp_path / name, lines, config), name)


@pytest.mark.parametrize(
    ("trained", "random", "verdict"), [(66.3, 62.4, "Perhaps"), (13.9, 14.2, "Perhaps not"), (5.0, 5.0, "Perhaps not")]
)
def test_one_run_each_is_no_proof(tmp_path, trained, random, verdict):
    [answer] = better_than_random([task_run(tmp_path, TRAINED, trained), task_run(tmp_path, RANDOM, random)])
    gain = f"{trained - random:+.1f}".replace("-", "−")
    assert (answer.verdict, answer.grade, answer.commands) == (verdict, "watch", [])
    assert answer.reasons == [
        f"Semantic segmentation reaches mIoU {trained} from {TRAINED} and {random} from random weights: {gain} points.",
        "One seed is no proof. Repeat both fine-tunings with other values of SEED.",
    ]


def test_boxes_and_masks_have_an_answer_each(tmp_path):
    def run(weights, boxes, masks):
        more = [{"iteration": 199, "segm/AP": masks, "segm/AP50": 2 * masks}]
        return task_run(tmp_path, weights, boxes, metric="bbox/AP", more=more)

    boxes, masks = better_than_random([run(TRAINED, 30.0, 28.0), run(RANDOM, 30.5, 20.0)])
    assert "reaches bbox/AP 30.0 from" in boxes.reasons[0] and boxes.verdict == "Perhaps not"
    assert "reaches segm/AP 28.0 from" in masks.reasons[0] and "+8.0 points" in masks.reasons[0]


def test_runs_with_equal_seeds_are_one_measurement(tmp_path):
    """Means of the seeds: 33 and 35, so 34 ± 1, against 31 of one seed and then 31 and 29."""
    runs = [task_run(tmp_path, TRAINED, score, SEED=seed) for seed, score in ((1, 32), (1, 34), (2, 35))]
    runs += [task_run(tmp_path, RANDOM, score, SEED=1) for score in (30.5, 31.5)]
    [answer] = better_than_random(runs)
    assert answer.verdict == "Perhaps" and answer.reasons[1].startswith("One seed is no proof.")
    assert " mIoU 34.0 ± 1.0 (3 runs of 2 seeds) from output/first/" in answer.reasons[0]
    assert " and 31.0 (2 runs of one seed) from random weights: +3.0 points." in answer.reasons[0]
    [answer] = better_than_random([*runs, task_run(tmp_path, RANDOM, 29.0, SEED=2)])
    assert " and 30.0 ± 1.0 (3 runs of 2 seeds) from random" in answer.reasons[0]


def test_a_run_with_an_unknown_seed_is_a_seed_of_its_own(tmp_path):
    seeds = ({"SEED": -1}, {"SEED": -1}, {}, {"SEED": 0})
    runs = [task_run(tmp_path, start, 5.0, **keys) for start in (TRAINED, RANDOM) for keys in seeds]
    assert " mIoU 5.0 ± 0.0 (4 runs) from " in better_than_random(runs)[0].reasons[0]


@pytest.mark.parametrize(
    ("trained", "random", "verdict", "grade"),
    [
        # Each mean has an error of 1, so the difference of √2. Student's t of 2 degrees of freedom has 4.303 √2 = 6.1.
        ([66, 68], [60, 62], "Perhaps", "watch"),
        ([67, 69], [60, 62], "Yes", "good"),
        ([60, 62], [67, 69], "No", "bad"),
    ],
)
def test_several_runs_are_judged_by_their_standard_error(tmp_path, trained, random, verdict, grade):
    runs = [task_run(tmp_path, TRAINED, value) for value in trained]
    runs += [task_run(tmp_path, RANDOM, value) for value in random]
    [answer] = better_than_random(runs)
    assert (answer.verdict, answer.grade) == (verdict, grade)
    assert f"mIoU {sum(trained) / 2:.1f} ± 1.0 (2 runs) from" in answer.reasons[0]
    assert answer.reasons[1] == "The standard error of this difference is 1.4 points."
    assert answer.reasons[2].startswith("All start from the same weights")


@pytest.mark.parametrize(
    ("ours", "theirs", "critical"),
    [  # from tables of Student's t
        ([-1, 1], [0, 0], 12.706),  # 1 degree of freedom: all of the error is of the first mean
        ([-1, 1], [-1, 1], 4.303),  # 2
        ([0, 0], [-1, 0, 1, -1, 0, 1, 0], 2.447),  # 6
    ],
)
def test_the_limit_is_that_of_welchs_test(ours, theirs, critical):
    _, error = _is_clear(ours, theirs)
    for share, clear in ((0.99, False), (1.01, True), (-0.99, False), (-1.01, True)):
        assert _is_clear([value + share * critical * error for value in ours], theirs)[0] == clear
    assert _is_clear([1, 1], [1, 1]) == (False, 0) and _is_clear([2, 2], [1, 1]) == (True, 0)


def fine_tunings(tmp_path, scores_of_seeds, **keys):
    """Fine-tunings of pre-trainings of several seeds, whose config.yaml lies beside the weights."""
    for seed, scores in scores_of_seeds.items():
        folder = tmp_path / f"pretrained{seed}{len(list(tmp_path.iterdir()))}"
        write_run(folder, config={**CONFIG, "SEED": seed, "OUTPUT_DIR": str(folder), **keys})
        for i, score in enumerate(scores):
            yield task_run(tmp_path, str(folder / "model_final.pth"), score, SEED=i)


def test_pre_trainings_that_differ_in_their_seed_are_one_start(tmp_path):
    """Means of the pre-trainings: 40, 42 and 44, so 42 ± 1.15, however many fine-tunings each has."""
    runs = list(fine_tunings(tmp_path, {1: [40.0], 2: [40.0, 42.0, 44.0], 3: [43.0, 45.0]}))
    runs += [task_run(tmp_path, RANDOM, score, SEED=i) for i, score in enumerate((30.0, 31.0, 32.0))]
    [answer] = better_than_random(runs)
    assert answer.verdict == "Yes" and " 42.0 ± 1.2 (6 runs) from 3 pre-trainings like …/" in answer.reasons[0]
    assert answer.reasons[2] == "Each pre-training counts once, with the mean of its fine-tunings."
    other = list(fine_tunings(tmp_path, {4: [50.0, 50.0]}, SOLVER={"MAX_ITER": 100}))
    assert [len(answer.reasons) for answer in better_than_random([*runs, *other])] == [3, 3]


@pytest.mark.parametrize(
    "key",
    [
        {"MODEL__TIMM__NAME": "resnet18d"},
        {"MODEL__BACKBONE__FROZEN": True},
        {"MODEL__MASK_ON": True},
        {"MODEL__ROI_HEADS__NAME": "StandardROIHeads"},
        {"MODEL__FPN__NORM": "GN"},
        {"INPUT__MIN_SIZE_TRAIN": [96]},
        {"INPUT__MIN_SIZE_TEST": 96},
        {"SOLVER__STEPS": [100]},
        {"SOLVER__OPTIMIZER": "AdamW"},
        {"DATALOADER__RANDOM_SUBSET_RATIO": 0.5},
        {"DATASETS__TEST": ["images:others"]},
        {"A_KEY_OF_ANOTHER_VERSION": 1},
    ],
)
def test_another_experiment_is_no_further_seed(tmp_path, key):
    runs = [task_run(tmp_path, TRAINED, 40.0), task_run(tmp_path, TRAINED, 20.0, **key)]
    runs += [task_run(tmp_path, RANDOM, score) for score in (31.0, 32.0)]
    [answer] = better_than_random(runs)
    assert f"mIoU 40.0 from {TRAINED} and 31.5 ± 0.5 (2 runs) from random weights: +8.5 points." in answer.reasons[0]


@pytest.mark.parametrize(
    "key",
    [
        {"OUTPUT_DIR": "elsewhere"},
        {"SEED": 7},
        {"INPUT__FORMAT": "RGB"},
        {"MODEL__PIXEL_MEAN": [0.0, 0.0, 0.0]},
        {"MODEL__DEVICE": "cpu"},
        {"MODEL__FPN__NORM": "SyncBN"},
        {"TEST__EVAL_PERIOD": 50},
        {"MODEL__BACKBONE__FROZEN": False},  # the default, which the other run lacks
        {"SOLVER__STEPS": [30000]},
        {"SOLVER__NUM_DECAYS": 3},  # a key of a later detectron2
    ],
)
def test_place_start_seed_and_missing_keys_do_not_matter(tmp_path, key):
    base = {"MODEL__FPN__NORM": "BN"}
    runs = [task_run(tmp_path, TRAINED, 40.0, **base), task_run(tmp_path, RANDOM, 30.0, **{**base, **key})]
    assert better_than_random(runs)[0].verdict == "Perhaps"


def test_each_start_and_each_task_has_an_answer(tmp_path):
    runs = [
        task_run(tmp_path, "a/a/a/a.pth", 10.0),
        task_run(tmp_path, "b.pth", 30.0),
        task_run(tmp_path, RANDOM, 20.0),
        task_run(tmp_path, "b.pth", 2.0, "bbox/AP", SOLVER__BASE_LR=2.0),
        task_run(tmp_path, RANDOM, 1.0, "bbox/AP", SOLVER__BASE_LR=2.0),
    ]
    answers = better_than_random(runs)
    assert [answer.verdict for answer in answers] == ["Perhaps not", "Perhaps", "Perhaps"]
    assert " from …/a/a.pth and " in answers[0].reasons[0] and " AP 2.0 from b.pth and 1.0 " in answers[2].reasons[0]


@pytest.mark.parametrize(
    "change",
    [
        {"SOLVER__BASE_LR": 5.0},
        {"iteration": 99},
        {"metric": "loss"},
        {"metric": "sem_seg/x"},
        {"metric": "bbox/AP"},
    ],
)
def test_other_runs_are_not_compared(tmp_path, change):
    """Another schedule, an unfinished run, no result, no common main metric."""
    [answer] = better_than_random([task_run(tmp_path, TRAINED, 30.0), task_run(tmp_path, RANDOM, 20.0, **change)])
    assert answer.verdict == "Not measured" and "the same network, data and schedule" in answer.reasons[0]


@pytest.mark.parametrize(
    "run",
    [
        {"iteration": 99, "more": [{"iteration": 199, "total_loss": 1.0}]},  # killed during its final evaluation
        {"iteration": 99, "more": [{"iteration": 200, "total_loss": 1.0, "sem_seg/mIoU": float("nan")}]},
        {"iteration": 99},
    ],
)
def test_a_run_without_a_final_result_is_named_and_not_compared(tmp_path, run):
    trained = task_run(tmp_path, TRAINED, 40.0)
    early = task_run(tmp_path, RANDOM, 10.0, **run)
    note = "Not compared, because the final result is missing or not a finite number: 1."
    [answer] = better_than_random([trained, early, task_run(tmp_path, "b.pth", 20.0)])
    assert answer.verdict == "Not measured" and answer.reasons[1:] == [note]
    [answer] = better_than_random([trained, early, task_run(tmp_path, RANDOM, 30.0)])
    assert " mIoU 40.0 from output/first/model_final.pth and 30.0 from random weights" in answer.reasons[0]
    assert answer.reasons[-1] == note


def test_a_pre_training_alone_tells_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = read_run(write_run(tmp_path / "my run"), "my run")
    [answer] = better_than_random([run])
    finetune = "pixpro-d2 finetune 'my run/model_final.pth' --task detection --data voc:DIR@train --test voc:DIR@test"
    assert answer.commands == [
        f"{finetune} --out 'output/my run_pretrained'",
        f"{finetune} --out 'output/my run_random' MODEL.WEIGHTS \"\"",
        "pixpro-d2 report 'my run' 'output/my run_pretrained' 'output/my run_random'",
    ]
