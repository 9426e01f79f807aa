"""Locate and write the data of a study: photographs, labelled data sets of several domains, rendered videos."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.datasets.class_folders import folder_classes
from ...data.datasets.label_subset import draw_images
from ...data.datasets.paths import read_class_names
from ...data.datasets.voc import class_names, image_ids
from ...utils.errors import UsageError
from ...utils.files import write_file
from ..scenes.render_video import render_videos
from .methods import Part
from .recipes import ROOT, Scale

# No clutter: with clutter, a short training learns only the background.
PRETRAINING_VIDEOS: dict[str, Any] = {"seed": 0, "flow_scale": 8, "labelled": 0, "clutter": False}
LABELLED_VIDEOS: dict[str, Any] = {
    "seed": 1,
    "labelled": 6,
    "clutter": False,
}  # another seed: pre-training has seen no test video


def shown(path: str | Path) -> str:
    """Return a path relative to ROOT, so that commands hold for every machine with the same layout."""
    return os.path.relpath(path, ROOT)


@dataclass(frozen=True)
class StudyData:
    """Hold the folders of the data; None for data that no part needs.

    Attributes:
        folder: folder for derived data.
        photographs: one folder of photographs for each class; only the control reads the classes.
        objects: data set in Pascal VOC layout, with the splits ``train5``, ``train20`` (images of each class),
            ``train`` and ``test``.
        scenes: folder with ``images`` and ``labels`` (PNG files of class ids) in ``train`` and in ``val``.
        cells: data set in Pascal VOC layout, with the splits ``trainval`` or ``train``, and ``test``.
    """

    folder: Path
    photographs: Path | None = None
    objects: Path | None = None
    scenes: Path | None = None
    cells: Path | None = None

    @property
    def pretraining_videos(self) -> Path:
        """Return the folder of the rendered videos to pre-train on."""
        return self.folder / "pretraining_videos"

    @property
    def labelled_videos(self) -> Path:
        """Return the folder of the other rendered videos, to fine-tune and to test on."""
        return self.folder / "labelled_videos"

    def write_missing(self, parts: list[Part], fine_tuning_seeds: list[int], scale: Scale) -> None:
        """Write the missing data of the parts: lists of labelled images, and videos.

        Args:
            parts: parts of the study.
            fine_tuning_seeds: SEED of each fine-tuning; each fine-tuning labels its own images.
            scale: number, length and size of the videos.

        Raises:
            UsageError: if data cannot be used.
        """
        tasks = {part.task for part in parts}
        if "driving" in tasks:
            render_videos(self.pretraining_videos, arrays=False, **PRETRAINING_VIDEOS, **scale.videos)
            render_videos(self.labelled_videos, arrays=False, **LABELLED_VIDEOS, **scale.videos)
        if "cells" in tasks:
            variants = dict.fromkeys(v for part in parts if part.task == "cells" for v in part.variants)
            for count in (int(variant) for variant in variants if variant != "all"):
                for seed in fine_tuning_seeds:
                    self._write_subset(count, seed)

    def pretraining(self, recipe: str) -> dict:
        """Return the options that name the data of a recipe for pre-training."""
        if recipe == "video":
            flow = {"MODEL.PIXPRO.FLOW.FILES": shown(self.pretraining_videos / "flow")}
            return {"DATASETS.TRAIN": names(f"video:{shown(self.pretraining_videos / 'frames')}"), **flow}
        photographs = self._folder_of("photographs")
        if recipe == "labels":
            classes = {"MODEL.CLASSIFIER.NUM_CLASSES": len(folder_classes(str(photographs)))}
            return {"DATASETS.TRAIN": names(f"classes:{shown(photographs)}"), **classes}
        return {"DATASETS.TRAIN": names(f"images:{shown(photographs)}")}

    def fine_tuning(self, task: str, variant: str, seed: int) -> dict:
        """Return the options that name the data of a variant of a task, for a fine-tuning with this SEED."""
        train, test, further = getattr(self, f"_{task}")(variant, seed)
        return {"DATASETS.TRAIN": names(train), "DATASETS.TEST": names(test), **further}

    def _folder_of(self, name: str) -> Path:
        """Return the folder of the data ``name``.

        Raises:
            UsageError: if the folder is not given.
        """
        folder = getattr(self, name)
        if folder is None:
            raise UsageError(f"The study needs {name}: name their folder by --{name}.")
        return folder

    def _objects(self, variant: str, seed: int) -> tuple[str, str, dict[str, Any]]:
        objects = self._folder_of("objects")
        split = "train" if variant == "all" else f"train{variant}"
        train, test = (f"voc:{shown(objects)}@{name}" for name in (split, "test"))
        return train, test, {"MODEL.ROI_HEADS.NUM_CLASSES": len(class_names(str(objects)))}

    def _cells(self, variant: str, seed: int) -> tuple[str, str, dict[str, Any]]:
        cells = self._folder_of("cells")
        root = shown(cells if variant == "all" else self.folder / "cells")
        split = self.train_split if variant == "all" else _subset(int(variant), seed)
        classes = {"MODEL.ROI_HEADS.NUM_CLASSES": len(class_names(str(cells)))}
        return f"voc:{root}@{split}", f"voc:{shown(cells)}@test", classes

    def _scenes(self, variant: str, seed: int) -> tuple[str, str, dict[str, Any]]:
        scenes = self._folder_of("scenes")
        train, test = (
            f"semseg:{shown(scenes / split / 'images')}@{shown(scenes / split / 'labels')}"
            for split in ("train", "val")
        )
        names = read_class_names(str(scenes / "train" / "labels"))
        if names is None:
            raise UsageError(f"{scenes / 'train' / 'labels'} has no classes.txt: name one class a line in it.")
        return train, test, {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(names)}

    def _driving(self, variant: str, seed: int) -> tuple[str, str, dict[str, Any]]:
        train, test = (f"cityscapes:{shown(self.labelled_videos)}@{split}" for split in ("train", "val"))
        return train, test, {"MODEL.BACKBONE.FROZEN": variant == "frozen"}

    @property
    def train_split(self) -> str:
        """Return the split of the cells to train on: trainval if it exists, else train."""
        split = Path("ImageSets", "Main", "trainval.txt")
        return "trainval" if (self._folder_of("cells") / split).is_file() else "train"

    def _write_subset(self, count: int, seed: int) -> None:
        """Write the list of ``count`` images to label, in a folder that shares the images and annotations."""
        cells = self._folder_of("cells")
        ids = image_ids(str(cells), self.train_split)
        if count > len(ids):
            raise UsageError(
                f"{cells} has {len(ids)} images in its split '{self.train_split}', and the study takes "
                f"{count} of them: leave out the parts that do, or use a larger data set."
            )
        root = self.folder / "cells"
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        for name in ("Annotations", "JPEGImages"):
            link, target = root / name, (cells / name).resolve()
            if link.is_symlink() and link.resolve() != target:
                raise UsageError(
                    f"{root} is of another data set, {link.resolve().parent}: remove it, or choose another output "
                    "folder."
                )
            if not link.is_symlink():
                link.symlink_to(target)
        text = "".join(f"{image}\n" for image in sorted(draw_images(ids, 100 * count / len(ids), seed)))
        write_file(str(lists / f"{_subset(count, seed)}.txt"), lambda path: Path(path).write_text(text))


def _subset(count: int, seed: int) -> str:
    return f"train_{count}_seed{seed}"


def names(*names: str) -> str:
    """Return names of data sets as a config's value, quoted so that a shell needs no further quotation marks."""
    return "({})".format(" ".join(f'"{name}",' for name in names))
