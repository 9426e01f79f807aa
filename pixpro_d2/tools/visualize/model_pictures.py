"""Define the sub-commands that show how a pre-training model represents fixed views."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...engine.pretrained import Pretrained, load_pretrained
from ...modeling.pretrain.pixpro import PixPro
from ...modeling.pretrain.two_branch import LevelComparison
from ...utils.errors import UsageError
from ...visualization.comparisons import picture_attention, picture_features, picture_matches, with_pixels
from ...visualization.slots import picture_slots
from ...visualization.views import Subject, ViewSource, compare_views
from .inputs import first_readable, images_of, load_pretraining_config, name_of, write_picture


def attention(args: argparse.Namespace) -> None:
    """Show the attention of the pixel propagation module for a few pixels of a view."""
    cfg = load_pretraining_config(args)
    if not cfg.MODEL.PIXPRO.PPM.ENABLED:
        raise UsageError(
            f"{args.config_file} has no pixel propagation module (MODEL.PIXPRO.PPM.ENABLED is False), whose attention "
            "this is: take a config of PixPro."
        )
    loaded, source = _load(args, cfg)
    loaded.require(("projector", "ppm"), "the attention")
    ppm = loaded.model.ppm
    assert ppm is not None  # the config has the pixel propagation module
    for number, image, subject in _subjects(args, cfg, source):
        comparisons = _compare(args, loaded.model, [subject.plain])
        view = source.images(subject.plain)[0]
        picture = picture_attention(comparisons, 0, ppm, view, loaded.note)
        write_picture(args, picture, name_of(number, image))


def features(args: argparse.Namespace) -> None:
    """Show the dense features of all images as colours, by their three principal components."""
    cfg = load_pretraining_config(args)
    loaded, source = _load(args, cfg)
    plain = [subject.plain for _, _, subject in _subjects(args, cfg, source)]
    views = [source.images(sample)[0] for sample in plain]
    write_picture(args, picture_features(_compare(args, loaded.model, plain), views, loaded.note)[0])


def matches(args: argparse.Namespace) -> None:
    """Show which pixels of two views the features match, against the true matches."""
    cfg = load_pretraining_config(args)
    loaded, source = _load(args, cfg)
    for number, image, subject in _subjects(args, cfg, source):
        comparisons = _compare(args, loaded.model, [subject.sample])
        views, boxes = source.images(subject.sample), subject.sample["boxes"]
        picture = picture_matches(comparisons, 0, views, boxes, loaded.note)
        write_picture(args, picture, name_of(number, image))


def slots(args: argparse.Namespace) -> None:
    """Show which prototype of SlotCon wins each pixel: a segmentation that needed no label."""
    cfg = load_pretraining_config(args)
    if cfg.MODEL.PIXPRO.METHOD != "slotcon":
        raise UsageError(
            f"{args.config_file} has no prototypes, whose pixels this shows (MODEL.PIXPRO.METHOD is "
            f"{cfg.MODEL.PIXPRO.METHOD}): take a config of SlotCon."
        )
    loaded, source = _load(args, cfg)
    loaded.require(("projector", "prototypes"), "the segments")
    plain = [subject.plain for _, _, subject in _subjects(args, cfg, source)]
    views = [source.images(sample)[0] for sample in plain]
    method: Any = loaded.model.method
    write_picture(args, picture_slots(_compare(args, loaded.model, plain), method, views, loaded.note))


def _load(args: argparse.Namespace, cfg: CfgNode) -> tuple[Pretrained, ViewSource]:
    """Return the pre-trained model, and the source of views."""
    levels = cfg.MODEL.PIXPRO.IN_FEATURES
    if args.level is not None and args.level not in levels:
        raise UsageError(f"There is no level '{args.level}' in MODEL.PIXPRO.IN_FEATURES: choose from {_list(levels)}.")
    loaded = load_pretrained(cfg, args.weights, args.seed)
    return loaded, ViewSource(cfg, correspondence=loaded.model.correspondence)


def _subjects(
    args: argparse.Namespace, cfg: CfgNode, source: ViewSource
) -> Iterator[tuple[int, dict[str, Any], Subject]]:
    """Yield (number, image, Subject) of the images to show; a number gives the same views with any weights."""
    return first_readable(args, images_of(args, cfg), lambda number, image: source.subject(image, (args.seed, number)))


def _compare(args: argparse.Namespace, model: PixPro, samples: Sequence[dict[str, Any]]) -> dict[str, LevelComparison]:
    """Return the comparisons of the wanted levels that have pixels to show."""
    comparisons = compare_views(model, samples)
    wanted = {level: x for level, x in comparisons.items() if args.level in (None, level)}
    if not with_pixels(wanted):
        size = samples[0]["views"].shape[-1]
        raise UsageError(
            f"Level {_list(wanted)} has a single pixel for views of {size} pixels, in which there is nothing to see: "
            "choose a finer one, or raise INPUT.PIXPRO.CROP_SIZE."
        )
    return wanted


def _list(levels: Iterable[str]) -> str:
    return ", ".join(levels)
