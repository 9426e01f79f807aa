"""The whole way in minutes, without any data: pre-train, fine-tune, evaluate, look.

    python -m pixpro_d2.tools.demo [--output output/demo]

Renders a small data set, pre-trains configs/pretrain/quickstart.yaml on its images without their labels,
fine-tunes a Faster R-CNN from that checkpoint and from random initialisation, and prints both results. Every
step is a run of train_net.py, whose command is printed; a finished step is not repeated.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from tabulate import tabulate

import pixpro_d2
from pixpro_d2.data import ensure_registered
from pixpro_d2.data.reader import read_image
from pixpro_d2.data.scenes import CLASSES
from pixpro_d2.engine.configure import load_config, resolve_sync_bn
from pixpro_d2.errors import UsageError
from pixpro_d2.json_files import read_json, write_json
from pixpro_d2.report.curves import read_curves
from pixpro_d2.tools.render import render_dataset
from pixpro_d2.visualization.detections import draw_detections
from pixpro_d2.visualization.pairs import picture_pairs
from pixpro_d2.visualization.sheet import contact_sheet
from pixpro_d2.visualization.views import ViewSource

CHECKOUT = Path(pixpro_d2.__file__).resolve().parents[1]
PRETRAIN = CHECKOUT / "configs/pretrain/quickstart.yaml"
DETECTOR = CHECKOUT / "configs/voc/faster_rcnn_R_18_FPN_small.yaml"

Size = collections.namedtuple("Size", "images test epochs finetune")
# images: rendered to train on; epochs: of pre-training; finetune: iterations of the detector
SIZES = {
    "demo": Size(images=600, test=200, epochs=8, finetune=300),
    "smoke": Size(images=16, test=4, epochs=1, finetune=2),
}
SIDE = 96  # of the scenes, pixels: small, so that two CPU cores see many of them in minutes


def run_train_net(output, config, *opts):
    """Run train_net.py into the folder ``output``, showing its progress; the full log stays in the folder.

    Does nothing where the folder holds the final model of the same command.

    Raises:
        UsageError: if the run fails.
    """
    command = [sys.executable, "train_net.py", "--config-file", str(config.relative_to(CHECKOUT))]
    command += [*map(str, opts), "OUTPUT_DIR", str(output)]
    record = output / "command.json"
    if read_json(record) == command and (output / "model_final.pth").is_file():
        print(f"  done before: {output}")
        return
    print("  $ python " + " ".join(f'"{part}"' if "(" in part else part for part in command[1:]))
    output.mkdir(parents=True, exist_ok=True)
    for stale in ("metrics.json", "model_final.pth"):
        (output / stale).unlink(missing_ok=True)
    start = time.time()
    lines = collections.deque(maxlen=15)
    with (
        open(output / "stdout.txt", "w") as log,
        subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=dict(os.environ, PYTHONUNBUFFERED="1"),
        ) as process,
    ):  # fmt: skip
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            if " eta: " in line:
                shown = re.findall(r"(?:eta|iter|total_loss): *\S+", line)
                print("    " + "  ".join(shown), flush=True)
    if process.returncode:
        print("".join(lines), end="", file=sys.stderr)
        raise UsageError(f"The run in {output} failed with these last lines; its whole log is stdout.txt there.")
    write_json(record, command)
    print(f"  took {time.time() - start:.0f} s")


def results(output):
    """AP, AP50, AP75 in per cent, of the last evaluation of a run."""
    curves, _ = read_curves(output / "metrics.json")
    return [curves[f"bbox/{name}"][-1][1] for name in ("AP", "AP50", "AP75")]


def draw_pairs(scenes, path, opts):
    """Picture of the pixel correspondences of one image, as pre-training sees it."""
    cfg = load_config(str(PRETRAIN), opts)
    name = f"voc:{scenes}@train"
    ensure_registered([name])
    samples = DatasetCatalog.get(name)
    source, image = ViewSource(cfg), samples[57 % len(samples)]
    picture_pairs(source, image, source.mapper(image, np.random.default_rng(4)), "p3").save(path)


def draw_results(scenes, runs, path, opts, count=4):
    """Picture of ground truth and the detections of ``runs`` (title -> folder) on test images."""
    name = f"voc:{scenes}@test"
    ensure_registered([name])
    samples = DatasetCatalog.get(name)[:count]
    classes = MetadataCatalog.get(name).thing_classes
    predictors = {}
    for title, folder in runs.items():
        cfg = load_config(str(DETECTOR), [*opts, "MODEL.WEIGHTS", str(folder / "model_final.pth")])
        resolve_sync_bn(cfg)
        predictors[title] = DefaultPredictor(cfg)
    rows = []
    for number, sample in enumerate(samples, start=1):
        image = read_image(sample["file_name"])
        bgr = np.asarray(image)[:, :, ::-1]
        found = {title: predict(bgr)["instances"].to("cpu") for title, predict in predictors.items()}
        last = number == len(samples)
        rows.append(draw_detections(image, sample["annotations"], found, classes, min_score=0.3, legend=last))
    contact_sheet(rows).save(path)


def run(output, size, device):
    """The demo into the folder ``output``."""
    start = time.time()
    scenes = output / "scenes"
    print(f"1. Rendering {size.images} + {size.test} scenes")
    render_dataset(scenes, train=size.images, test=size.test, size=SIDE, clutter=False)
    common = ["MODEL.DEVICE", device, "SEED", 0]

    print(f"2. Pre-training PixPro on the {size.images} training images, without their labels")
    pretrained = output / "pretrain"
    views = ["INPUT.PIXPRO.CROP_SIZE", 64, *common]
    train = ["DATASETS.TRAIN", f"('voc:{scenes}@train',)"]
    run_train_net(pretrained, PRETRAIN, *train, "SOLVER.MAX_EPOCHS", size.epochs, *views)

    print(f"3. Fine-tuning a detector on {size.images} labelled images, from PixPro and from random weights")
    detector = ["MODEL.ROI_HEADS.NUM_CLASSES", len(CLASSES), "INPUT.MIN_SIZE_TEST", SIDE, *common]
    data = [*train, "DATASETS.TEST", f"('voc:{scenes}@test',)"]
    steps = ["SOLVER.MAX_ITER", size.finetune, "SOLVER.STEPS", f"({size.finetune * 4 // 5},)"]
    runs = {"PixPro": output / "finetune_pixpro", "random": output / "finetune_random"}
    for title, folder in runs.items():
        weights = ["MODEL.WEIGHTS", pretrained / "model_final.pth"] if title == "PixPro" else []
        run_train_net(folder, DETECTOR, *data, "INPUT.MIN_SIZE_TRAIN", f"({SIDE},)", *detector, *steps, *weights)

    print("4. Pictures")
    draw_pairs(scenes, output / "correspondences.png", views)
    draw_results(scenes, runs, output / "detections.png", detector)
    print(f"  {output / 'correspondences.png'}\n  {output / 'detections.png'}\n")
    table = [[title, *results(folder)] for title, folder in runs.items()]
    print(tabulate(table, ["initialisation", "AP", "AP50", "AP75"], tablefmt="github", floatfmt=".1f"))
    print(
        f"\nFaster R-CNN R18-FPN, {size.finetune} iterations on {size.images} images, {size.test} test images, one "
        f"seed. Minutes of pre-training on a few hundred images show how it works, not what days of it on many "
        f"images give. {(time.time() - start) / 60:.1f} minutes in all."
    )


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.demo",
        description="Pre-train, fine-tune and evaluate on rendered scenes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for everything it makes")
    parser.add_argument("--size", choices=SIZES, default="demo", help="smoke: only to see that everything runs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    try:
        run(args.output.resolve(), SIZES[args.size], args.device)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
