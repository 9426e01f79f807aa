"""Images that a model is trained and tested on alike: their results say nothing about other images."""

import functools
import logging
import os
from collections.abc import Iterable, Mapping

from detectron2.utils import comm

logger = logging.getLogger(__name__)


def image_files(images: Iterable[dict]) -> set[tuple[str, str]]:
    """Return the files of dataset dicts, as (folder, name); links to a folder count as the folder.

    Args:
        images: dataset dicts; those without a file of their own, of videos, do not count.
    """
    real_folder = functools.lru_cache(maxsize=None)(os.path.realpath)
    split = (os.path.split(image["file_name"]) for image in images if "file_name" in image)
    return {(real_folder(folder or "."), name) for folder, name in split}


def warn_of_shared_images(train: Iterable[dict], tests: Mapping[str, set]) -> None:
    """Warn, in the main process, of data sets of DATASETS.TEST that have images of DATASETS.TRAIN.

    Args:
        train: dataset dicts.
        tests: files of the images, by the name of the data set, as of :func:`image_files`.
    """
    if not comm.is_main_process() or not any(tests.values()):
        return
    trained = image_files(train)
    for name, tested in tests.items():
        shared = len(tested & trained)
        if shared:
            logger.warning(
                f"{shared} of the {len(tested)} images of '{name}' in DATASETS.TEST are in DATASETS.TRAIN too: results "
                "on them say nothing about other images."
            )
