"""The data of a study: images without labels, few labels out of a VOC data set, rendered driving video."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.writing import write_file
from ..data.datasets.voc import class_names, image_ids
from ..errors import UsageError
from ..tools.label_subset import draw_images
from ..tools.render_video import render_videos

ROOT = Path(__file__).resolve().parents[2]  # the checkout, where commands run
# Without clutter, among which a short training learns the background alone.
PRETRAINING_VIDEOS = {"seed": 0, "flow_scale": 8, "labelled": 0, "clutter": False}
LABELLED_VIDEOS = {
    "seed": 1,
    "labelled": 6,
    "clutter": False,
}  # another seed: nothing that is tested on was seen in pre-training


def shown(path):
    """A path relative to the checkout, as the commands have it: they hold for every machine with the same layout."""
    return os.path.relpath(path, ROOT)


@dataclass(frozen=True)
class StudyData:
    """Where the data are.

    Attributes:
        folder (Path): for what the study makes of them.
        images (tuple[str]): data sets ``images:DIR`` to pre-train on, beside the detection images.
        detection (Path or None): folder in Pascal VOC layout; None if no part needs it.
    """

    folder: Path
    images: tuple
    detection: Path | None

    @property
    def pretraining_videos(self):
        """Folder of the rendered videos to pre-train on."""
        return self.folder / "pretraining_videos"

    @property
    def labelled_videos(self):
        """Folder of the rendered videos, others than these, to fine-tune and to test on."""
        return self.folder / "labelled_videos"

    def prepare(self, parts, seeds, scale):
        """Write what the parts (list[Part]) need and is not there yet: lists of labelled images, videos.

        Raises:
            UsageError: for data that cannot be used.
        """
        tasks = {part.task for part in parts}
        if "segmentation" in tasks:
            render_videos(self.pretraining_videos, arrays=False, **PRETRAINING_VIDEOS, **scale.videos)
            render_videos(self.labelled_videos, arrays=False, **LABELLED_VIDEOS, **scale.videos)
        if "detection" in tasks:
            variants = dict.fromkeys(v for part in parts if part.task == "detection" for v in part.variants)
            for count in (int(variant) for variant in variants if variant != "all"):
                for seed in seeds:
                    self._write_subset(count, seed)

    def pretraining(self, recipe):
        """Options that name the data of one of a Scale's recipes for pre-training."""
        if recipe == "video":
            flow = {"MODEL.PIXPRO.FLOW.FILES": shown(self.pretraining_videos / "flow")}
            return {"DATASETS.TRAIN": _names(f"video:{shown(self.pretraining_videos / 'frames')}"), **flow}
        return {"DATASETS.TRAIN": _names(*self.images, f"voc:{shown(self.detection)}@{self.train_split}")}

    def fine_tuning(self, task, variant, seed):
        """Options that name the data of a variant of a task."""
        if task == "segmentation":
            train, test = (f"cityscapes:{shown(self.labelled_videos)}@{split}" for split in ("train", "val"))
            further = {"MODEL.BACKBONE.FROZEN": variant == "frozen"}
        else:
            root = shown(self.detection if variant == "all" else self.folder / "detection")
            split = self.train_split if variant == "all" else _subset(int(variant), seed)
            train, test = f"voc:{root}@{split}", f"voc:{shown(self.detection)}@test"
            further = {"MODEL.ROI_HEADS.NUM_CLASSES": len(class_names(str(self.detection)))}
        return {"DATASETS.TRAIN": _names(train), "DATASETS.TEST": _names(test), **further}

    @property
    def train_split(self):
        """The split to train on: trainval if there is one, else train."""
        split = Path("ImageSets", "Main", "trainval.txt")
        return "trainval" if (self.detection / split).is_file() else "train"

    def _write_subset(self, count, seed):
        """Write the list of ``count`` images to label, in a folder that shares the images and annotations."""
        ids = image_ids(str(self.detection), self.train_split)
        if count > len(ids):
            raise UsageError(
                f"{self.detection} has {len(ids)} images in its split '{self.train_split}', and the study takes "
                f"{count} of them: leave out the parts that do, or use a larger data set."
            )
        root = self.folder / "detection"
        lists = root / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        for name in ("Annotations", "JPEGImages"):
            link, target = root / name, (self.detection / name).resolve()
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


def _names(*names):
    """A tuple as a config's value, in quotation marks that a shell needs no more of."""
    return "({})".format(" ".join(f'"{name}",' for name in names))
