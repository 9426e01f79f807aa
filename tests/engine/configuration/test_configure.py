"""Resolving a config: epochs, learning rate, SyncBN, device, batch."""

import pytest
import torch
from detectron2.utils import comm
from PIL import Image

import configs
from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.configuration.configure import (
    load_config,
    resolve_device,
    resolve_schedule,
    resolve_seed,
    resolve_sync_bn,
    setup,
)
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.files import read_json

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    return f"images:{tmp_path}"


def test_epochs_and_rate_become_explicit(folder):
    opts = ["DATASETS.TRAIN", (folder,), "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_EPOCHS", 5, "SOLVER.WARMUP_EPOCHS", 2]
    opts += ["SOLVER.BASE_LR", 4.0, "SOLVER.LR_SCALING", "linear", "SOLVER.LR_REFERENCE_BATCH", 1024]
    cfg = load_config(QUICKSTART, opts)
    sentence = resolve_schedule(cfg, opts[::2])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (10, 4)  # 10 images // 4 = 2 iterations an epoch
    assert pytest.approx(4.0 * 4 / 1024) == cfg.SOLVER.BASE_LR
    assert "10 iterations = 5 epochs of 10 images" in sentence and "0.015625" in sentence and "linear" in sentence
    # The saved config must give the same run again.
    before = cfg.dump()
    resolve_schedule(cfg)
    assert cfg.dump() == before


def test_iterations_count_without_epochs(folder):
    opts = ["DATASETS.TRAIN", (folder,), "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_EPOCHS", 0, "SOLVER.MAX_ITER", 7]
    cfg = load_config(QUICKSTART, [*opts, "SOLVER.WARMUP_EPOCHS", 20])
    resolve_schedule(cfg)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (7, 7)  # a longer warm-up is cut at the run's end


@pytest.mark.parametrize(
    ("config", "opts", "warmup"),
    [
        ("pretrain/quickstart", [], 1),  # 1 of 5 epochs, of 2 iterations each
        ("pretrain/small_data_r18_fpn", [], 1),  # 500 iterations
        ("pretrain/small_data_r18_fpn", ["SOLVER.WARMUP_ITERS", 6], 6),
        ("pretrain/quickstart", ["SOLVER.WARMUP_EPOCHS", 2], 4),
    ],
)
def test_a_warm_up_does_not_fill_a_run_of_few_epochs(folder, config, opts, warmup):
    opts = ["DATASETS.TRAIN", (folder,), "SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_EPOCHS", 5, *opts]
    cfg = load_config(config, opts)
    resolve_schedule(cfg, opts[::2])
    assert (10, warmup) == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS)


def test_a_file_keeps_its_warm_up(folder, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("_BASE_: pretrain/quickstart.yaml\nSOLVER: {MAX_EPOCHS: 5, WARMUP_EPOCHS: 5, IMS_PER_BATCH: 4}")
    cfg = load_config(str(path), ["DATASETS.TRAIN", (folder,)])
    assert "of which 10 warm-up: it fills the run, so lower SOLVER.WARMUP_ITERS;" in resolve_schedule(cfg)


@pytest.mark.parametrize(
    ("opts", "warmup"),
    [
        ([], (50, 0)),  # quickstart.yaml: 1 of 20 epochs
        (["SOLVER.WARMUP_ITERS", 7], (7, 0)),
        (["SOLVER.WARMUP_EPOCHS", 3], (1000, 3)),
        (["SOLVER.WARMUP_EPOCHS", 0], (1000, 0)),
    ],
)
def test_the_warm_up_keeps_its_share_of_a_run_in_iterations(opts, warmup):
    solver = load_config(QUICKSTART, ["SOLVER.MAX_ITER", 1000, *opts]).SOLVER
    assert (solver.MAX_ITER, solver.MAX_EPOCHS) == (1000, 0)
    assert warmup == (solver.WARMUP_ITERS, solver.WARMUP_EPOCHS)


def test_a_warm_up_in_epochs_stays_without_a_length_in_epochs():
    """As the error about two lengths advises."""
    solver = load_config("pretrain/pixpro_c5_400ep", ["SOLVER.MAX_EPOCHS", 0, "SOLVER.MAX_ITER", 200000]).SOLVER
    assert (solver.MAX_ITER, solver.WARMUP_EPOCHS) == (200000, 5)


@pytest.mark.parametrize(
    ("opts", "warmup"),
    [
        ([], 1000),  # detectron2's default
        (["SOLVER.MAX_ITER", 20000], 1000),
        (["SOLVER.MAX_ITER", 800], 80),
        (["SOLVER.MAX_ITER", 800, "SOLVER.WARMUP_ITERS", 300], 300),
    ],
)
def test_a_warm_up_in_iterations_does_not_fill_a_shorter_run(opts, warmup):
    assert warmup == load_config("voc/fcn_R_50_30k", opts).SOLVER.WARMUP_ITERS


@pytest.mark.parametrize(
    ("config", "opts", "rate"),
    [
        ("pretrain/quickstart", ["SOLVER.IMS_PER_BATCH", 32], 2.0),
        ("pretrain/small_data_r18_fpn", ["SOLVER.IMS_PER_BATCH", 64], 2.0),
        ("coco/mask_rcnn_R_50_FPN_1x", ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.LR_REFERENCE_BATCH", 16], 0.01),
    ],
)
def test_the_rate_of_any_recipe_can_follow_the_batch(config, opts, rate):
    cfg = load_config(config, [*opts, "SOLVER.LR_SCALING", "linear", "SOLVER.MAX_ITER", 9, "SOLVER.WARMUP_ITERS", 0])
    resolve_schedule(cfg)
    assert pytest.approx(rate) == cfg.SOLVER.BASE_LR


def test_a_scaling_needs_the_batch_of_its_rate():
    cfg = load_config("coco/mask_rcnn_R_50_FPN_1x", ["SOLVER.LR_SCALING", "linear"])
    with pytest.raises(UsageError, match=r"SOLVER.BASE_LR 0.02 belongs to: set SOLVER.LR_REFERENCE_BATCH"):
        resolve_schedule(cfg)


@pytest.mark.parametrize(("iterations", "epochs"), [("MAX_ITER", "MAX_EPOCHS"), ("WARMUP_ITERS", "WARMUP_EPOCHS")])
def test_iterations_of_the_command_line_count(tmp_path, iterations, epochs):
    """quickstart.yaml has both in epochs."""
    by_epochs, both = [f"SOLVER.{epochs}", 3], [f"SOLVER.{iterations}", 7, f"SOLVER.{epochs}", 3]
    cfg = load_config(QUICKSTART, both[:2])
    assert (cfg.SOLVER[iterations], cfg.SOLVER[epochs]) == (7, 0)
    assert load_config(QUICKSTART, by_epochs).SOLVER[epochs] == 3
    with pytest.raises(UsageError, match=f"^The options have both SOLVER.{iterations} and SOLVER.{epochs}: remove"):
        load_config(QUICKSTART, both)
    assert load_config(QUICKSTART, [*both[:3], 0]).SOLVER[iterations] == 7
    (tmp_path / "both.yaml").write_text(f"SOLVER: {{{iterations}: 7, {epochs}: 3}}")
    with pytest.raises(UsageError, match=rf"both\.yaml: SOLVER.{iterations} 7 and SOLVER.{epochs} 3 are both"):
        load_config(str(tmp_path / "both.yaml"), [])


def test_loading_a_config_changes_nothing_else():
    before = Image.MAX_IMAGE_PIXELS
    load_config(QUICKSTART, ["DATALOADER.MAX_IMAGE_PIXELS", 77])
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("value", ["0", "+0", 0])
def test_a_whole_number_is_a_number(value):
    cfg = load_config(QUICKSTART, ["MODEL.PIXPRO.VARIANCE_WEIGHT", value, "SOLVER.MAX_ITER", "7"])
    assert cfg.MODEL.PIXPRO.VARIANCE_WEIGHT == 0.0 and isinstance(cfg.MODEL.PIXPRO.VARIANCE_WEIGHT, float)
    assert isinstance(cfg.SOLVER.MAX_ITER, int)


def test_epochs_are_for_pretraining():
    cfg = load_config(str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml"), ["SOLVER.MAX_EPOCHS", 3])
    with pytest.raises(UsageError, match="set SOLVER.MAX_ITER"):
        resolve_schedule(cfg)


def norms(cfg):
    return {cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM, cfg.MODEL.PIXPRO.NORM}


@pytest.mark.parametrize(
    "processes, device, expected",
    [(1, "cpu", "BN"), (1, "cuda", "BN"), (2, "cpu", "naiveSyncBN"), (2, "cuda", "SyncBN")],
)
def test_sync_bn_is_what_the_run_can_execute(monkeypatch, processes, device, expected):
    monkeypatch.setattr(comm, "get_world_size", lambda: processes)
    cfg = load_config(QUICKSTART, ["MODEL.DEVICE", device])
    resolve_sync_bn(cfg)
    assert norms(cfg) == {expected}
    assert cfg.MODEL.ROI_BOX_HEAD.NORM == ""  # keys that do not ask for SyncBN stay


@pytest.mark.parametrize("has_gpu, device", [(True, "cuda"), (False, "cpu")])
def test_the_device_is_the_gpu_where_there_is_one(monkeypatch, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(has_gpu))
    for opts in ([], ["MODEL.DEVICE", "auto"]):
        cfg = load_config(QUICKSTART, opts)
        resolve_device(cfg)
        assert device == cfg.MODEL.DEVICE
    assert load_config(QUICKSTART, ["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"


def test_a_gpu_that_is_asked_for_and_missing_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="PyTorch sees no GPU: leave MODEL.DEVICE out, or set it to cpu"):
        resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", "cuda"]))


def test_a_tilde_is_the_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.yaml").write_text(f"_BASE_: {QUICKSTART}\nOUTPUT_DIR: ~/out\n")
    cfg = load_config(str(tmp_path / "own.yaml"), ["MODEL.WEIGHTS", "~/w.pth"])
    assert (f"{tmp_path}/out", f"{tmp_path}/w.pth") == (cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS)


@pytest.mark.parametrize("device", ["gpu", "CPU", "mps", "meta", "xpu", "cuda:x"])
def test_other_devices_are_one_sentence(device):
    with pytest.raises(UsageError, match=f"^MODEL.DEVICE is '{device}'; it must be auto, cuda or cpu.$"):
        resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", device]))


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", "cuda:1"]))
    with pytest.raises(UsageError, match="'cuda:2', but PyTorch numbers 2 GPUs from 0: name one of them"):
        resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", "cuda:2"]))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", "cuda"]))
    with pytest.raises(UsageError, match="'cuda:1', but each process needs a GPU of its own: set it to cuda"):
        resolve_device(load_config(QUICKSTART, ["MODEL.DEVICE", "cuda:1"]))


def test_a_resumed_run_has_the_seed_that_it_began_with(folder, tmp_path):
    def seed(*words):
        opts = ["DATASETS.TRAIN", f"('{folder}',)", "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "4", "OUTPUT_DIR"]
        args = ["--config-file", QUICKSTART, *words, *opts, str(tmp_path / "out")]
        return setup(argument_parser().parse_args(args)).SEED

    first, second = seed(), seed()
    assert first >= 0 and second >= 0 and first != second
    assert seed("--resume") == second
    assert seed("--eval-only") == -1 and seed("--resume") == second  # config.yaml is written anew by each
    assert seed("--resume", "SEED", str(second)) == second
    assert seed("--resume", "SEED", "3") == 3 and seed("--resume") == 3  # the run has saved nothing
    (tmp_path / "out/model_0000004.pth").touch()
    with pytest.raises(UsageError, match="SEED is 4, but the run in .*out started with 3"):
        seed("--resume", "SEED", "4")
    (tmp_path / "out/model_0000004.pth").unlink()
    assert seed("SEED", "5") == 5 and seed("--resume") == 5
    (tmp_path / "out/seed.json").write_text('{"se')
    with pytest.raises(UsageError, match="seed.json is damaged: .*log.txt"):
        seed("--resume")


def test_a_resumed_run_without_a_seed_file_has_the_seed_of_its_config(folder, tmp_path):
    """A refused command draws no seed: seed.json would then contradict the run."""
    opts = ["DATASETS.TRAIN", f"('{folder}',)", "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "4", "OUTPUT_DIR"]
    words = ["--config-file", QUICKSTART, *opts, str(tmp_path)]
    began = setup(argument_parser().parse_args(words)).SEED
    (tmp_path / "model_0000004.pth").touch()
    (tmp_path / "seed.json").unlink()
    with pytest.raises(UsageError, match=r"config.yaml \(MODEL.PIXPRO.MOMENTUM was 0.9, now 0.8\)"):
        setup(argument_parser().parse_args(["--resume", *words, "MODEL.PIXPRO.MOMENTUM", "0.8"]))
    assert not (tmp_path / "seed.json").exists()
    with pytest.raises(UsageError, match=f"SEED is {began + 1}, but the run in .* started with {began}"):
        setup(argument_parser().parse_args(["--resume", *words, "SEED", str(began + 1)]))
    assert began == setup(argument_parser().parse_args(["--resume", *words])).SEED
    assert read_json(tmp_path / "seed.json") == {"seed": began}


def test_a_fine_tuning_draws_its_seed_too(tmp_path):
    config = configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml"
    cfg = load_config(str(config), ["OUTPUT_DIR", str(tmp_path)])
    resolve_seed(cfg, argument_parser().parse_args(["--eval-only"]), {})
    assert cfg.SEED == -1
    resolve_seed(cfg, argument_parser().parse_args([]), {})
    assert cfg.SEED >= 0


def test_the_log_warns_of_many_workers(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("pixpro_d2.data.io.workers.usable_cores", lambda: 1)
    words = ["--config-file", QUICKSTART, "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", folder, "SOLVER.IMS_PER_BATCH", "4"]
    setup(argument_parser().parse_args([*words, "DATALOADER.NUM_WORKERS", "3", "OUTPUT_DIR", str(tmp_path)]))
    assert "have 3 workers, but the number of processor cores for this job is 1:" in (tmp_path / "log.txt").read_text()


def test_an_evaluation_leaves_the_config_of_a_training(folder, tmp_path):
    out = tmp_path / "out"
    words = [
        "--config-file",
        QUICKSTART,
        "MODEL.DEVICE",
        "cpu",
        "DATASETS.TRAIN",
        f"('{folder}',)",
        "OUTPUT_DIR",
        str(out),
    ]
    training = setup(argument_parser().parse_args([*words, "SOLVER.IMS_PER_BATCH", "5", "SOLVER.MAX_EPOCHS", "3"]))
    assert training.SOLVER.MAX_ITER == 6
    written = (out / "config.yaml").read_text()
    setup(argument_parser().parse_args(["--eval-only", *words, "DATASETS.TEST", f"('{folder}',)"]))
    assert (out / "config.yaml").read_text() == written
    other = tmp_path / "other"  # without a training there is that of the evaluation
    setup(argument_parser().parse_args(["--eval-only", *words[:-1], str(other), "DATASETS.TEST", f"('{folder}',)"]))
    assert "MAX_ITER: 6" not in (other / "config.yaml").read_text()


def test_an_evaluation_leaves_the_config_beside_a_copied_checkpoint(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/model_final.pth").touch()
    (tmp_path / "copy/config.yaml").write_text("of the training")
    words = ["--config-file", QUICKSTART, "DATASETS.TEST", folder, "OUTPUT_DIR", str(tmp_path / "copy")]
    setup(argument_parser().parse_args(["--eval-only", *words, "MODEL.DEVICE", "cpu"]))
    assert (tmp_path / "copy/config.yaml").read_text() == "of the training"


def test_an_evaluation_does_not_need_the_training_data(folder, tmp_path):
    words = ["--config-file", QUICKSTART, "DATASETS.TRAIN", "voc:/gone@train", "DATASETS.TEST", folder]
    words += ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path / "out")]
    assert setup(argument_parser().parse_args(["--eval-only", *words])).DATASETS.TRAIN == ("voc:/gone@train",)
    for wrong in (words, ["--eval-only", *words, "MODEL.META_ARCHITECTURE", "KNNClassifier"]):
        with pytest.raises(UsageError, match="voc:/gone@train"):
            setup(argument_parser().parse_args(wrong))
