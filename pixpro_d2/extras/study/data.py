"""The data of a study: photographs, labelled data sets of several domains, rendered driving video."""

import os
from dataclasses import dataclass
from pathlib import Path

from ...config_files import configs_folder
from ...data.datasets.class_folders import folder_classes
from ...data.datasets.label_subset import draw_images
from ...data.datasets.paths import read_class_names
from ...data.datasets.voc import class_names, image_ids
from ...utils.errors import UsageError
from ...utils.files import write_file
from ..scenes.render_video import render_videos
from .methods import Part
from .recipes import Scale

CHECKOUT = Path(__file__).resolve().parents[3]
# Where commands run: the checkout, or, where the package is installed without one, the current folder.
ROOT = CHECKOUT if configs_folder().parent == CHECKOUT else Path.cwd()
# Without clutter, among which a short training learns the background alone.
PRETRAINING_VIDEOS = {"seed": 0, "flow_scale": 8, "labelled": 0, "clutter": False}
LABELLED_VIDEOS = {
    "seed": 1,
    "labelled": 6,
    "clutter": False,
}  # another seed: nothing that is tested on was seen in pre-training


def shown(path):
    """A path relative to ROOT, as the commands have it: they hold for every machine with the same layout."""
    return os.path.relpath(path, ROOT)


@dataclass(frozen=True)
class StudyData:
    """Where the data are; None for what no part needs.

    Attributes:
        folder (Path): for what the study makes of them.
        photographs (Path or None): one folder of photographs a class; all methods but the control ignore the classes.
        objects (Path or None): in Pascal VOC layout, with the splits ``train5``, ``train20`` (images of each class),
            ``train`` and ``test``.
        scenes (Path or None): with ``images`` and ``labels`` (PNG files of class ids) in ``train`` and in ``val``.
        cells (Path or None): in Pascal VOC layout, with the splits ``trainval`` or ``train``, and ``test``.
    """

    folder: Path
    photographs: Path | None = None
    objects: Path | None = None
    scenes: Path | None = None
    cells: Path | None = None

    @property
    def pretraining_videos(self) -> Path:
        """Folder of the rendered videos to pre-train on."""
        return self.folder / "pretraining_videos"

    @property
    def labelled_videos(self) -> Path:
        """Folder of the rendered videos, others than these, to fine-tune and to test on."""
        return self.folder / "labelled_videos"

    def prepare(self, parts: list[Part], fine_tuning_seeds: list[int], scale: Scale) -> None:
        """Write what the parts need and is not there yet: lists of labelled images, videos.

        Args:
            fine_tuning_seeds: SEED of the fine-tunings, each of which labels images of its own.

        Raises:
            UsageError: for data that cannot be used.
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
        if recipe == "labels":
            classes = {"MODEL.CLASSIFIER.NUM_CLASSES": len(folder_classes(str(self.photographs)))}
            return {"DATASETS.TRAIN": names(f"classes:{shown(self.photographs)}"), **classes}
        return {"DATASETS.TRAIN": names(f"images:{shown(self.photographs)}")}

    def fine_tuning(self, task: str, variant: str, seed: int) -> dict:
        """Return the options that name the data of a variant of a task, for a fine-tuning with this SEED."""
        train, test, further = getattr(self, f"_{task}")(variant, seed)
        return {"DATASETS.TRAIN": names(train), "DATASETS.TEST": names(test), **further}

    def _objects(self, variant, seed):
        split = "train" if variant == "all" else f"train{variant}"
        train, test = (f"voc:{shown(self.objects)}@{name}" for name in (split, "test"))
        return train, test, {"MODEL.ROI_HEADS.NUM_CLASSES": len(class_names(str(self.objects)))}

    def _cells(self, variant, seed):
        root = shown(self.cells if variant == "all" else self.folder / "cells")
        split = self.train_split if variant == "all" else _subset(int(variant), seed)
        classes = {"MODEL.ROI_HEADS.NUM_CLASSES": len(class_names(str(self.cells)))}
        return f"voc:{root}@{split}", f"voc:{shown(self.cells)}@test", classes

    def _scenes(self, variant, seed):
        train, test = (
            f"semseg:{shown(self.scenes / split / 'images')}@{shown(self.scenes / split / 'labels')}"
            for split in ("train", "val")
        )
        names = read_class_names(str(self.scenes / "train" / "labels"))
        if names is None:
            raise UsageError(f"{self.scenes / 'train' / 'labels'} has no classes.txt: name one class a line in it.")
        return train, test, {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(names)}

    def _driving(self, variant, seed):
        train, test = (f"cityscapes:{shown(self.labelled_videos)}@{split}" for split in ("train", "val"))
        return train, test, {"MODEL.BACKBONE.FROZEN": variant == "frozen"}

    @property
    def train_split(self) -> str:
        """The split of the cells to train on: trainval if there is one, else train."""
        split = Path("ImageSets", "Main", "trainval.txt")
        return "trainval" if (self.cells / split).is_file() else "train"

    def _write_subset(self, count, seed):
        """Write the list of ``count`` images to label, in a folder that shares the images and annotations."""
        ids = image_ids(str(self.cells), self.train_split)
        if count > len(ids):
            raise UsageError(
                f"{self.cells} has {len(ids)} images in its split '{self.train_split}', and the study takes "
                f"{count} of them: leave out the parts that do, or use a larger data set."
            )
        root = self.folder / "cells"
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        for name in ("Annotations", "JPEGImages"):
            link, target = root / name, (self.cells / name).resolve()
            if link.is_symlink() and link.resolve() != target:
                raise UsageError(
                    f"{root} is of another data set, {link.resolve().parent}: remove it, or choose another output "
                    "folder."
                )
            if not link.is_symlink():
                link.symlink_to(target)
        text = "".join(f"{image}\n" for image in sorted(draw_images(ids, 100 * count / len(ids), seed)))
        write_file(str(lists / f"{_subset(count, seed)}.txt"), lambda path: Path(path).write_text(text))


def _subset(count, seed):
    return f"train_{count}_seed{seed}"


def names(*names):
    """Names of data sets as a config's value, in quotation marks that a shell needs no more of."""
    return "({})".format(" ".join(f'"{name}",' for name in names))
