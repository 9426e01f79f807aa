"""Measure how good dense features are, beside the features of random weights.

python -m pixpro_d2.tools.measure --config-file configs/pretrain/pixpro_fpn.yaml --weights model.pth --input my_photos

The command crops two augmented views from each image, as pre-training does, and reports:

* whether the most similar pixel of the other view is a true match;
* in how many directions the features spread;
* how well features predict the height of a pixel;
* with --labels, how well a linear probe predicts labels.

The command always uses the first --count images and the same views, so that two checkpoints are comparable. The
statistics of normalisation layers are adapted to the images.
"""

import argparse
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

from ..command_line import OptionsAnywhere, ShownDefaults, at_least, one_sentence, positive, program
from ..utils.errors import UsageError

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OptionsAnywhere(
        prog=program("measure"),
        description="Measure how well dense features match between two views of an image.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("--config-file", required=True, help="config of a pre-training")
    parser.add_argument("--weights", default="", help="checkpoint to measure; by default MODEL.WEIGHTS, or random")
    parser.add_argument("--input", help="images, videos, or data set such as voc:DIR@SPLIT; default DATASETS.TRAIN")
    parser.add_argument("--count", type=positive, default=128, help="number of images, or of runs of frames")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the views, and of random weights")
    parser.add_argument("--labels", help="labelled data set for a linear probe; --input if it has labels")
    parser.add_argument("--no-random", action="store_true", help="measure no random weights and print no verdict")
    parser.add_argument("--json", action="store_true", help="print JSON, with null for NaN")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config options as KEY VALUE ...")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.report.transfer import table, verdict

    found, random = _measure_config(args)
    if args.json:
        columns = {"weights": found} | ({"random": random} if random else {})
        print(json.dumps({name: _finite_or_null(values) for name, values in columns.items()}))
    else:
        print(table(found, random))
        if random:
            print(f"\n{verdict(found, random)}")


def _finite_or_null(values: dict[str, float]) -> dict[str, float | None]:
    """Replace infinite values and NaN, which JSON does not have, by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _measure_config(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from ..config import is_pretraining
    from ..data.downstream.tasks import labels_of
    from ..data.io.reader import restrict_pillow
    from ..data.pretrain.samples import dataset_name, load_samples
    from ..engine.configuration.configure import load_config, resolve_device, resolve_sync_bn
    from ..engine.pretrained import load_pretrained
    from ..evaluation.dense_features import split_halves
    from ..evaluation.readouts import readouts

    cfg = load_config(args.config_file, args.opts)
    restrict_pillow(cfg.DATALOADER.MAX_IMAGE_PIXELS)
    if not is_pretraining(cfg) or not cfg.MODEL.PIXPRO.IN_FEATURES:
        raise UsageError(
            f"{args.config_file} has no pixel-level pre-training to measure: choose from configs/pretrain."
        )
    resolve_device(cfg)
    resolve_sync_bn(cfg)
    if args.input:
        cfg.DATASETS.TRAIN = (dataset_name(cfg, args.input),)
    images = load_samples(cfg)
    if cfg.INPUT.PIXPRO.N_FRAMES:  # several random runs of frames for each video
        images = images * -(-args.count // len(images))
    images = images[: args.count]
    if len(set(split_halves(images))) < 2:
        logger.warning("height_r2 is NaN, whatever the features: it needs two images, or runs of two videos.")
    loaded = load_pretrained(cfg, args.weights, args.seed)
    if loaded.random:
        logger.warning(f"{loaded.note}: what passes through a random part tells nothing about the file.")
    labels = args.labels or (cfg.DATASETS.TRAIN[0] if args.input and labels_of(images[0]) else None)
    found = readouts(loaded.model, cfg, images, labels, args.seed)
    if args.no_random or not loaded.path:
        return found, None
    cfg.MODEL.WEIGHTS = ""
    return found, readouts(load_pretrained(cfg, "", args.seed).model, cfg, images, labels, args.seed)


if __name__ == "__main__":
    main()
