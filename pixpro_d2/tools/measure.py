"""How good dense features are, without labels.

python -m pixpro_d2.tools.measure --config-file configs/pretrain/pixpro_fpn.yaml --weights model.pth --input my_photos

Cuts two augmented views out of each image, as pre-training does, and asks for every pixel of one view whether the most
similar pixel of the other is a true match. The first --count images, always the same views: two checkpoints compare.
"""

import argparse
import json

import numpy as np
import torch
from detectron2.modeling import build_model
from tabulate import tabulate

from ..checkpoint import PixProCheckpointer
from ..config import is_pretraining
from ..data.reader import UnreadableImage
from ..data.samples import build_view_mapper, folder_name, load_samples
from ..data.video_collate import collate_videos
from ..engine.configure import load_config, resolve_device, resolve_sync_bn
from ..errors import UsageError
from ..modeling.monitors import feature_std, matches, pair_counts

BATCH = 32


@torch.no_grad()
def measure(model, mapper, images, seed=0):
    """Measure a pre-training model, with the running statistics of its norms.

    Args:
        model (PixPro):
        mapper (TwoViewMapper): or VideoMapper.
        images (list[dict]): dataset dicts, two or more.
        seed (int): of the views.

    Returns:
        dict[str, dict[str, float]]: for each feature of the model

        * loss: both directions, before weighting;
        * match_accuracy, match_accuracy_projected: of the backbone's (or dense head's) features and the projector's, in
          [0, 1]; see :func:`pixpro_d2.modeling.monitors.match_accuracy`;
        * chance: what a random choice of pixel would score;
        * feature_std, feature_std_projected: see :func:`pixpro_d2.modeling.monitors.feature_std`;
        * healthy_std, healthy_std_projected: 1 / sqrt(C), the scale of the two;
        * positive_pairs: per image.
    """
    model.eval()
    sums = {}
    for start in range(0, len(images), BATCH):
        part = enumerate(images[start : start + BATCH], start)
        batch = [mapper(image, np.random.default_rng((seed, i))) for i, image in part]
        losses, comparisons = model.compare(*model.prepare(collate_videos(batch)))
        for level, x in comparisons.items():
            total = sums.setdefault(level, {})
            first, second = x.views
            for name, pair in (("", (first.features, second.features)), ("_projected", (first.keys, second.keys))):
                hits, pixels = matches(*pair, x.positives)
                _add(total, f"hits{name}", hits)
                _add(total, f"pixels{name}", pixels)
                _add(total, f"feature_std{name}", feature_std(pair[0]) * len(batch))
                total[f"channels{name}"] = pair[0].shape[1]
            _add(total, "loss", losses[f"loss_pix_{level}"] * len(model.in_features) * len(batch))
            _add(total, "positive_pairs", pair_counts(x.positives)[0] * len(batch))
            _add(total, "chance", x.positives.float().mean(dim=2)[x.positives.any(dim=2)].sum())
    return {level: _result(total, len(images)) for level, total in sums.items()}


def _add(total, name, value):
    total[name] = total.get(name, 0.0) + float(value)


def _result(total, images):
    result = {name: total[name] / images for name in ("loss", "positive_pairs", "feature_std", "feature_std_projected")}
    for name in ("", "_projected"):
        result[f"match_accuracy{name}"] = total[f"hits{name}"] / max(total[f"pixels{name}"], 1)
        result[f"healthy_std{name}"] = total[f"channels{name}"] ** -0.5
    result["chance"] = total["chance"] / max(total["pixels"], 1)
    return result


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.measure",
        description="Measure how well dense features match between two views of an image.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="config of a pre-training")
    parser.add_argument("--weights", default="", help="checkpoint to measure; random weights without it")
    parser.add_argument("--input", help="folder of images, or of videos; DATASETS.TRAIN of the config without it")
    parser.add_argument("--count", type=int, default=128, help="number of images, or of runs of frames")
    parser.add_argument("--seed", type=int, default=0, help="seed of the views, and of random weights")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config options as KEY VALUE ...")
    args = parser.parse_args(argv)
    try:
        result = _measure_config(args)
    except (UsageError, UnreadableImage) as error:
        raise SystemExit(f"error: {error}") from None
    if args.json:
        print(json.dumps(result))
        return
    columns = {
        "loss": "loss",
        "match_accuracy": "matched",
        "match_accuracy_projected": "matched, projected",
        "chance": "chance",
        "feature_std": "std",
        "healthy_std": "of",
        "feature_std_projected": "std, projected",
        "healthy_std_projected": "of",
        "positive_pairs": "pairs",
    }
    rows = [[level, *(values[name] for name in columns)] for level, values in result.items()]
    print(tabulate(rows, headers=["feature", *columns.values()], floatfmt=".3f"))


def _measure_config(args):
    cfg = load_config(args.config_file, args.opts)
    if not is_pretraining(cfg) or not cfg.MODEL.PIXPRO.IN_FEATURES:
        raise UsageError(
            f"{args.config_file} has no pixel-level pre-training to measure: choose from configs/pretrain."
        )
    resolve_device(cfg)
    resolve_sync_bn(cfg)
    if args.input:
        cfg.DATASETS.TRAIN = (folder_name(cfg, args.input),)
    images = load_samples(cfg)
    if cfg.INPUT.PIXPRO.N_FRAMES:  # of a video, several random runs of frames
        images = images * -(-args.count // len(images))
    images = images[: args.count]
    torch.manual_seed(args.seed)
    model = build_model(cfg)
    if args.weights:
        PixProCheckpointer(model).resume_or_load(args.weights, resume=False)
    return measure(model, build_view_mapper(cfg), images, args.seed)


if __name__ == "__main__":
    main()
