"""Pictures of what pre-training sees.

python -m pixpro_d2.tools.visualize pairs --config-file configs/pretrain/pixpro_fpn.yaml --input my_photos
python -m pixpro_d2.tools.visualize flow --config-file configs/pretrain/pixpro_video_quickstart.yaml --input my_videos

A sub-command is a function of the parsed arguments, listed in :func:`main`.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch

from ..data.datasets.images import list_images
from ..data.datasets.video import list_frames
from ..data.reader import UnreadableImage, read_image
from ..data.samples import build_view_mapper, folder_name, load_samples
from ..data.video_collate import collate_videos
from ..engine.configure import load_config
from ..errors import UsageError
from ..modeling.correspondence import bin_centers
from ..modeling.correspondence_builder import build_correspondence
from ..visualization.correspondence import describe, draw_correspondences
from ..visualization.flow import describe as describe_motion
from ..visualization.flow import draw_flow
from ..visualization.tracks import corner_points, follow, pixel_centers
from ..visualization.video_pairs import draw_video_pairs

# Pixels of the view per bin of each feature of ResNet, of its FPN and of RegNet.
STRIDES = {f"res{i}": 2**i for i in range(2, 6)}
STRIDES |= {f"p{i}": 2**i for i in range(2, 7)}
STRIDES |= {f"s{i}": 2 ** (i + 1) for i in range(1, 5)}
POINTS = 126  # whose paths are drawn, about


def draw_sample(dataset_dict, cfg, level, rng):
    """Picture of the positive pairs of one random pair of views.

    Args:
        dataset_dict (dict): with ``file_name``; with ``INPUT.PIXPRO.N_FRAMES`` that of a video.
        cfg (CfgNode): of a pre-training.
        level (str): feature whose grid is shown, a key of STRIDES.
        rng (numpy.random.Generator): chooses the views.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.correspondence.draw_correspondences`; for two frames
        :func:`pixpro_d2.visualization.video_pairs.draw_video_pairs`.

    Raises:
        UsageError: for an unknown level, a config that describes no views, or flow that cannot be had.
        UnreadableImage: see :func:`pixpro_d2.data.reader.read_image`.
    """
    if level not in STRIDES:
        raise UsageError(f"There is no level '{level}': choose from {', '.join(STRIDES)}.")
    cfg = _for_pictures(cfg)
    correspondence = build_correspondence(cfg)
    sample = build_view_mapper(cfg)(dataset_dict, rng)
    geometry = correspondence.prepare(collate_videos([sample]), torch.device(cfg.MODEL.DEVICE))
    grids = ((math.ceil(cfg.INPUT.PIXPRO.CROP_SIZE / STRIDES[level]),) * 2,) * 2
    positives = correspondence(geometry, grids)[0][0].cpu().numpy()
    views = sample["views"][:, ::-1] if cfg.INPUT.FORMAT == "BGR" else sample["views"]
    caption = describe(positives, grids, cfg.MODEL.PIXPRO.POS_RATIO)
    if cfg.INPUT.PIXPRO.N_FRAMES <= 1:
        image = read_image(sample["file_name"])
        return draw_correspondences(image, views, sample["boxes"], positives, grids, caption=caption)
    centers = bin_centers(torch.from_numpy(sample["boxes"][:1]), grids[0])[0].numpy()
    tracks = follow(centers, geometry.motion, correspondence)
    paths = _end_frames(dataset_dict, sample, cfg)
    return draw_video_pairs(
        [read_image(path) for path in paths],
        [os.path.basename(path) for path in paths],
        views,
        sample["boxes"],
        tracks,
        positives,
        grids,
        f"{caption} Of the centres of view 1's bins {describe_motion(tracks)}",
    )


def draw_run(video, cfg, rng):
    """Picture of the flow through one random run of ``INPUT.PIXPRO.N_FRAMES`` frames.

    Args:
        video (dict): of :func:`pixpro_d2.data.datasets.video.load_videos`.
        cfg (CfgNode): of a pre-training on videos.
        rng (numpy.random.Generator): chooses the run.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.flow.draw_flow`.

    Raises:
        UsageError, UnreadableImage: as of :func:`draw_sample`.
    """
    cfg = _for_pictures(cfg)
    correspondence = build_correspondence(cfg)
    sample = build_view_mapper(cfg)(video, rng)
    motion = correspondence.prepare(collate_videos([sample]), torch.device(cfg.MODEL.DEVICE)).motion
    paths = _end_frames(video, sample, cfg)
    frames = [read_image(path) for path in paths]
    source = "out of files" if correspondence.estimator is None else f"by {correspondence.estimator.name}"
    cell = math.sqrt(frames[0].width * frames[0].height / POINTS)
    cells = [max(1, round(side / cell)) for side in frames[0].size]
    return draw_flow(
        frames,
        [os.path.basename(path) for path in paths],
        follow(pixel_centers(frames[0].size), motion, correspondence),
        follow(corner_points(frames[0], cells), motion, correspondence),
        cfg.INPUT.PIXPRO.N_FRAMES - 1,
        f"{video['video']}, flow {source}",
    )


def _for_pictures(cfg):
    """The config with what does not show: finished views, the earlier frame first, any device that there is."""
    cfg = cfg.clone()
    cfg.INPUT.AUG_DEVICE = "cpu"
    cfg.INPUT.PIXPRO.SWAP_P = 0.0
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def _end_frames(video, sample, cfg):
    """Files of the frames that view 1 and view 2 of a sample of ``video`` show."""
    paths = list_frames(video["file_name"])
    start = paths.index(sample["file_name"])
    return [paths[start], paths[start + cfg.INPUT.PIXPRO.N_FRAMES - 1]]


def pairs(args):
    """Two views of an image, or of two frames of a video, and their positive pairs; needs no model."""
    cfg = load_config(args.config_file, args.opts)
    level = args.level or cfg.MODEL.PIXPRO.IN_FEATURES[0]
    _write_pictures(args, cfg, lambda image, rng: draw_sample(image, cfg, level, rng))


def flow(args):
    """The optical flow between the ends of runs of video frames, and what training keeps of it; needs no model."""
    cfg = load_config(args.config_file, args.opts)
    if cfg.INPUT.PIXPRO.N_FRAMES < 2:
        raise UsageError(
            f"INPUT.PIXPRO.N_FRAMES is {cfg.INPUT.PIXPRO.N_FRAMES}, but flow is between 2 frames of a video or more: "
            "take the config of a pre-training on videos, or add `INPUT.PIXPRO.N_FRAMES 6`."
        )
    _write_pictures(args, cfg, lambda video, rng: draw_run(video, cfg, rng))


def _write_pictures(args, cfg, draw):
    """Write ``draw(dataset_dict, rng)`` for the first ``args.count`` readable images, and print the paths."""
    args.output.mkdir(parents=True, exist_ok=True)
    written, unreadable = 0, None
    for number, image in enumerate(_images(args, cfg)):
        if written == args.count:
            break
        try:
            picture = draw(image, np.random.default_rng((args.seed, number)))
        except UnreadableImage as error:
            print(f"skipped {error}", file=sys.stderr)
            unreadable = error
            continue
        path = args.output / f"{args.command}_{number:03d}_{Path(image['file_name']).stem}.png"
        picture.save(path)
        print(path)
        written += 1
    if not written:
        raise UsageError(f"No image could be read, the last one is {unreadable}.")


def _images(args, cfg):
    """Dataset dicts of the images to show, or of the videos, which are repeated until there are ``args.count``."""
    if not cfg.INPUT.PIXPRO.N_FRAMES:
        if args.input is None:
            return load_samples(cfg)
        paths = [args.input] if Path(args.input).is_file() else list_images(args.input)
        return [{"file_name": path} for path in paths]
    if args.input is not None:
        cfg = cfg.clone()
        cfg.DATASETS.TRAIN = (folder_name(cfg, args.input),)
    videos = load_samples(cfg)
    return videos * math.ceil(args.count / len(videos))


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _add_command(commands, run):
    """Add the sub-command ``run``, named and described by the function, with the arguments that all have."""
    parser = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of a pre-training")
    parser.add_argument("--input", metavar="PATH", help="image or folder, for videos a folder of folders of frames; "
                        "by default DATASETS.TRAIN")  # fmt: skip
    output = Path("output", run.__name__)
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help=f"by default {output}")
    parser.add_argument("--count", type=_positive, default=4, metavar="N", help="pictures to draw, by default 4")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all randomness, by default 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options, after the rest")
    return parser


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(prog="python -m pixpro_d2.tools.visualize", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command", metavar="WHAT")
    command = _add_command(commands, pairs)
    command.add_argument("--level", help=f"feature whose grid is shown ({', '.join(STRIDES)}); by default the first "
                         "of MODEL.PIXPRO.IN_FEATURES")  # fmt: skip
    _add_command(commands, flow)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
