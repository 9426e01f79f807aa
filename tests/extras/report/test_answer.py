"""Whether pre-trained weights beat random weights."""

import copy

import pytest
from report_helpers import CONFIG, write_run

from pixpro_d2.extras.report.answer import better_than_random
from pixpro_d2.extras.report.runs import read_run

TRAINED, RANDOM = "output/first/model_final.pth", ""


def task_run(tmp_path, weights, score, metric="sem_seg/mIoU", iteration=199, network="", **changes):
    config = copy.deepcopy(CONFIG)
    config["MODEL"]["TIMM"] = {"NAME": network}
    config["MODEL"] |= {"META_ARCHITECTURE": "SemanticSegmentor", "WEIGHTS": weights}
    config["SOLVER"] |= changes
    name = str(len(list(tmp_path.iterdir())))
    lines = [{"iteration": iteration, "total_loss": 1.0, metric: score}]
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
        "One run is no proof. Repeat both fine-tunings with other values of SEED.",
    ]


@pytest.mark.parametrize(
    ("trained", "random", "verdict", "grade"),
    [
        ([62, 64], [60, 62], "Perhaps", "watch"),  # each mean has an error of 1, so the difference of √2: 2 is unclear
        ([63, 65], [60, 62], "Yes", "good"),  # 3 is clear
        ([60, 62], [63, 65], "No", "bad"),
    ],
)
def test_several_runs_are_judged_by_their_standard_error(tmp_path, trained, random, verdict, grade):
    runs = [task_run(tmp_path, TRAINED, value) for value in trained]
    runs += [task_run(tmp_path, RANDOM, value) for value in random]
    [answer] = better_than_random(runs)
    assert (answer.verdict, answer.grade) == (verdict, grade)
    assert f"mIoU {sum(trained) / 2:.1f} ± 1.0 (2 runs) from" in answer.reasons[0]
    assert answer.reasons[1] == "The standard error of this difference is 1.4 points."


def test_different_networks_of_timm_are_not_compared(tmp_path):
    trained = task_run(tmp_path, TRAINED, 30.0, network="convnext_atto")
    others = [task_run(tmp_path, RANDOM, 20.0, network=name) for name in ("resnet18d", "convnext_atto")]
    assert better_than_random([trained, others[0]])[0].grade == "unknown"
    assert better_than_random([trained, others[1]])[0].grade == "watch"


def test_each_start_and_each_task_has_an_answer(tmp_path):
    runs = [
        task_run(tmp_path, "a/a/a/a.pth", 10.0),
        task_run(tmp_path, "b.pth", 30.0),
        task_run(tmp_path, RANDOM, 20.0),
        task_run(tmp_path, "b.pth", 2.0, "bbox/AP", BASE_LR=2.0),
        task_run(tmp_path, RANDOM, 1.0, "bbox/AP", BASE_LR=2.0),
    ]
    answers = better_than_random(runs)
    assert [answer.verdict for answer in answers] == ["Perhaps not", "Perhaps", "Perhaps"]
    assert " from …/a/a.pth and " in answers[0].reasons[0] and " AP 2.0 from b.pth and 1.0 " in answers[2].reasons[0]


@pytest.mark.parametrize("change", [{"BASE_LR": 5.0}, {"iteration": 99}, {"metric": "loss"}, {"metric": "sem_seg/x"}])
def test_other_runs_are_not_compared(tmp_path, change):
    """Another schedule, an unfinished run, no result, no common main metric."""
    [answer] = better_than_random([task_run(tmp_path, TRAINED, 30.0), task_run(tmp_path, RANDOM, 20.0, **change)])
    assert answer.verdict == "Not measured" and "the same network, data and schedule" in answer.reasons[0]


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
