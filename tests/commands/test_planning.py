"""The launcher's arguments of a pre-training and a fine-tuning."""

import pytest
import torch
import torchvision
import yaml
from archive_helpers import write_shards, write_zip
from data_helpers import write_images
from detectron2.modeling import build_backbone
from rendering import render_once

from pixpro_d2.checkpoint import InputConvention, PixProCheckpointer
from pixpro_d2.commands import finetune, planning, pretrain
from pixpro_d2.commands.machine import Machine
from pixpro_d2.commands.parsing import flags
from pixpro_d2.commands.planning import plan_fine_tuning, plan_pretraining
from pixpro_d2.data.datasets.video import register_video
from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.launch_arguments import check_arguments, command_of
from pixpro_d2.monitoring.run_record import record_start
from pixpro_d2.utils.errors import UsageError

scenes = render_once(train=18, test=2, size=64, layouts=("voc", "classes"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Function of a depth that makes a checkpoint of torchvision's ResNet."""
    folder = tmp_path_factory.mktemp("weights")

    def make(depth):
        path = folder / f"resnet{depth}.pth"
        if not path.exists():
            torch.save(getattr(torchvision.models, f"resnet{depth}")().state_dict(), path)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    def machine(device="", processes=0):
        return Machine(device or "cpu", processes or 1, 0.0, 2)

    monkeypatch.setattr("pixpro_d2.commands.planning.this_machine", machine)


def config_of(plan):
    args = argument_parser().parse_args(plan.words)
    check_arguments(args)
    return args, load_config(args.config_file, args.opts)


def test_a_folder_alone_is_enough(scenes):
    plan = plan_pretraining(f"images:{scenes / 'JPEGImages'}", "")
    args, cfg = config_of(plan)
    assert plan.sentence == (
        "Recipe pretrain/quickstart, because 20 images are few: 20 images, 500 iterations of batch 16 on the CPU, "
        "into output/JPEGImages. Fewer than 100 images teach a network little: add images if you can."
    )
    assert (args.num_gpus, cfg.MODEL.DEVICE, cfg.OUTPUT_DIR) == (1, "cpu", "output/JPEGImages")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.WARMUP_ITERS) == (500, 0, 25)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS) == (16, 1)
    assert (f"images:{scenes / 'JPEGImages'}",) == cfg.DATASETS.TRAIN


def test_archives_are_counted_and_give_their_name(scenes, tmp_path):
    zipped = write_zip(tmp_path / "my photos.zip", scenes / "JPEGImages")
    shards = write_shards(tmp_path / "shards", scenes / "JPEGImages", 3)
    for data, name in ((zipped, "my photos"), (shards, "shards")):
        plan = plan_pretraining(f"images:{data}", "")
        assert f"20 images, 500 iterations of batch 16 on the CPU, into output/{name}." in plan.sentence
        assert (f"images:{data}",) == config_of(plan)[1].DATASETS.TRAIN


def test_an_epoch_of_videos_has_many_starts(tmp_path, monkeypatch):
    for i in range(6):
        write_images(tmp_path / f"{i}", 3)
    opts = ["SOLVER.IMS_PER_BATCH", "16", "INPUT.PIXPRO.STARTS_PER_VIDEO", "8"]
    plan = plan_pretraining(f"video:{tmp_path}", "", "pretrain/pixpro_bdd100k_1frames_2000ep", opts)
    assert "6 videos, 5000 iterations of batch 16" in plan.sentence  # 2000 * (6 * 8 // 16) are too many for a CPU
    opts = ["INPUT.PIXPRO.STARTS_PER_VIDEO", "160"]
    plan = plan_pretraining(f"video:{tmp_path}", "", opts=opts)
    assert "6 videos, 1200 iterations of batch 16" in plan.sentence  # 20 * (6 * 160 // 16)
    assert "Fewer than 5000 frames can harm a network" in plan.sentence
    assert config_of(plan)[1].SOLVER.WARMUP_ITERS == 60  # an epoch, as quickstart has
    monkeypatch.setattr(planning, "FEW_FRAMES", 18)
    plan = plan_pretraining(f"video:{tmp_path}", "", "pretrain/pixpro_video_quickstart")
    assert "6 videos, 300 iterations of batch 16" in plan.sentence and "Fewer" not in plan.sentence
    register_video("registered_videos", str(tmp_path))
    assert "6 videos" in plan_pretraining("registered_videos", "").sentence


def test_what_the_user_says_comes_before_every_choice(scenes):
    opts = ["SOLVER.MAX_EPOCHS", "3", "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", "0"]
    plan = plan_pretraining(f"images:{scenes}", "there", "pretrain/pixpro_c5_100ep", opts, 2, ["--resume"])
    args, cfg = config_of(plan)
    assert "because you named it" in plan.sentence and "3 epochs of batch 4" in plan.sentence
    assert (args.num_gpus, args.resume, cfg.OUTPUT_DIR) == (2, True, "there")
    assert (cfg.SOLVER.MAX_EPOCHS, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS) == (3, 4, 0)
    assert cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone"


def test_a_run_in_the_home_folder_is_found_again(monkeypatch, scenes, weights, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    data, checkpoint = f"images:{scenes}", weights(18)
    (tmp_path / "resnet.pth").symlink_to(checkpoint)
    for plan in (
        plan_pretraining(data, "~/run"),
        plan_pretraining(data, "", opts=["OUTPUT_DIR", "~/run", "SOLVER.IMS_PER_BATCH", "1e1"]),
        plan_fine_tuning("~/resnet.pth", "detection", f"voc:{scenes}@train", out="~/run"),
    ):
        assert plan.folder == tmp_path / "run" and plan.words[-2:] == ["OUTPUT_DIR", str(plan.folder)]


def test_a_resumed_run_keeps_its_plan(scenes, tmp_path):
    """Another version planned other numbers."""
    planned = {"IMS_PER_BATCH": 8, "MAX_ITER": 700, "WARMUP_ITERS": 70, "BASE_LR": 0.5}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"SOLVER": planned}))
    plan = plan_pretraining(f"images:{scenes}", str(tmp_path), flags=["--resume"])
    _, cfg = config_of(plan)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (8, 700, 70)
    assert cfg.SOLVER.BASE_LR == 1.0 and "700 iterations of batch 8" in plan.sentence
    _, cfg = config_of(plan_pretraining(f"images:{scenes}", str(tmp_path)))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (500, 25)
    (tmp_path / "config.yaml").write_text("a: [")  # damaged: the run itself warns
    _, cfg = config_of(plan_pretraining(f"images:{scenes}", str(tmp_path), flags=["--resume"]))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (500, 25)


def test_a_resumed_run_keeps_its_recipe(scenes, tmp_path):
    """Another version, device or number of images led to another choice; an evaluation may have had another config."""
    data, resume = f"images:{scenes}", ["--resume"]
    for words in (["pretrain/small_data_r18_fpn"], ["voc/fcn_R_50_30k", "--eval-only"]):
        record_start(tmp_path, command_of(argument_parser().parse_args(["--config-file", *words])), {})
    plan = plan_pretraining(data, str(tmp_path), flags=resume)
    assert config_of(plan)[0].config_file == "pretrain/small_data_r18_fpn"
    assert "Recipe pretrain/small_data_r18_fpn, because the run started with it:" in plan.sentence
    record_start(tmp_path, command_of(argument_parser().parse_args(["--config-file", "mine/x.yaml"])), {})
    with pytest.raises(UsageError, match="started with the config mine/x.yaml, which is not here: name it by --recipe"):
        plan_pretraining(data, str(tmp_path), flags=resume)
    for other in (
        plan_pretraining(data, str(tmp_path), "pretrain/quickstart", flags=resume),
        plan_pretraining(data, str(tmp_path)),
        plan_pretraining(data, str(tmp_path / "new"), flags=resume),
    ):
        assert config_of(other)[0].config_file == "pretrain/quickstart"


def test_warm_up_follows_the_length_that_the_user_says(scenes):
    opts = ["SOLVER.MAX_ITER", "40", "OUTPUT_DIR", "elsewhere"]
    _, cfg = config_of(plan_pretraining(f"images:{scenes}", "", opts=opts))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS, cfg.OUTPUT_DIR) == (40, 2, "elsewhere")


def test_the_input_of_the_weights_is_taken(scenes, tmp_path):
    """Grey images of 12 bits: format, statistics and range; an option of the user counts more."""
    grey = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", "[120.0]", "MODEL.PIXEL_STD", "[60.0]"]
    opts = [*grey, "INPUT.PIXEL_RANGE", "[0, 4095]", "MODEL.DEVICE", "cpu"]
    cfg = load_config("voc/faster_rcnn_R_18_FPN_small", opts)
    model = torch.nn.ModuleDict({"backbone": build_backbone(cfg)})
    PixProCheckpointer(model, str(tmp_path), convention=InputConvention.from_config(cfg)).save("grey")
    path = tmp_path / "grey.pth"
    plan = plan_fine_tuning(str(path), "detection", f"voc:{scenes}@train", opts=["MODEL.WEIGHTS", ""])
    _, cfg = config_of(plan)
    assert (cfg.INPUT.FORMAT, cfg.INPUT.PIXEL_RANGE, cfg.MODEL.WEIGHTS) == ("L", [0.0, 4095.0], "")
    assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ([120.0], [60.0])
    plan = plan_fine_tuning(str(path), "detection", f"voc:{scenes}@train", opts=[*grey[:-1], "[50.0]"])
    assert config_of(plan)[1].MODEL.PIXEL_STD == [50.0]
    named = "voc/faster_rcnn_R_18_FPN_small"
    plan = plan_fine_tuning(str(path), "detection", f"voc:{scenes}@train", config=named)
    assert config_of(plan)[1].INPUT.FORMAT == "L"


@pytest.mark.parametrize(
    ("task", "data", "config"),
    [
        ("detection", "voc:{}@train", "voc/faster_rcnn_R_18_FPN_small"),
        ("segmentation", "voc_seg:{}@train", "semseg/fpn_R_18_small"),
        ("classification", "classes:{}/train", "classification/resnet_R_18_small"),
    ],
)
def test_the_config_suits_task_and_network(scenes, weights, task, data, config):
    plan = plan_fine_tuning(weights(18), task, data.format(scenes))
    args, cfg = config_of(plan)
    assert args.config_file == config
    assert weights(18) == cfg.MODEL.WEIGHTS and cfg.DATASETS.TEST == () and cfg.MODEL.DEVICE == "cpu"
    assert str(plan.folder) == cfg.OUTPUT_DIR and plan.folder.name.endswith(f"_{task}")
    assert f"iterations of batch {cfg.SOLVER.IMS_PER_BATCH} on the CPU" in plan.sentence
    assert plan.sentence.endswith("for first tries, with small images and a short training (docs/downstream.md).")


def test_a_length_in_epochs_is_said_in_epochs(scenes, weights):
    config = "imagenet/linear_R_50_100ep"
    plan = plan_fine_tuning(weights(50), "classification", f"classes:{scenes}/train", config=config)
    assert " images, 100 epochs of batch 256" in plan.sentence


@pytest.mark.parametrize("command", [pretrain, finetune])
def test_options_of_the_launcher_are_passed_on(command):
    words = {pretrain: ["photos"], finetune: ["weights.pth", "--task", "detection", "--data", "voc:a@train"]}[command]
    passed = ["--resume", "--allow-changes", "--dry-run"]
    for given in (passed, []):
        args = command.build_parser().parse_args([*words, *given])
        assert flags(args.resume, args.allow_changes, args.dry_run) == given


@pytest.mark.parametrize("option", ["--config", "--recipe", "--config-file"])
def test_the_config_has_the_same_names_in_all_programs(option):
    given = [option, "a/config"]
    args = finetune.build_parser().parse_args(["w.pth", "--task", "detection", "--data", "d", *given])
    assert args.config == pretrain.build_parser().parse_args(["photos", *given]).recipe == "a/config"


def test_a_larger_network_gets_its_config(scenes, weights):
    args, cfg = config_of(plan_fine_tuning(weights(50), "detection", f"voc:{scenes}@train", f"voc:{scenes}@test"))
    assert args.config_file == "voc/faster_rcnn_R_50_FPN_24k" and (f"voc:{scenes}@test",) == cfg.DATASETS.TEST


@pytest.mark.parametrize(("opts", "asked", "used"), [([], 0, 2), (["SOLVER.IMS_PER_BATCH", "9"], 0, 3), ([], 3, 3)])
def test_fine_tuning_takes_gpus_that_share_the_batch(monkeypatch, scenes, weights, opts, asked, used):
    def three_gpus(device="", processes=0):
        return Machine("cuda", processes or 3, 24.0, 12)

    monkeypatch.setattr("pixpro_d2.commands.planning.this_machine", three_gpus)
    data, config = f"voc:{scenes}@train", "voc/faster_rcnn_R_18_FPN_small"  # batch 8
    plan = plan_fine_tuning(weights(18), "detection", data, config=config, opts=opts, processes=asked)
    assert config_of(plan)[0].num_gpus == used and "first tries" not in plan.sentence


def test_mistakes(scenes, weights):
    with pytest.raises(UsageError, match="is resnet50, for which there is no config of classification: name a config"):
        plan_fine_tuning(weights(50), "classification", f"classes:{scenes}/train")
