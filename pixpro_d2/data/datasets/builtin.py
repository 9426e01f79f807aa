"""Register names of data sets below ``$DETECTRON2_DATASETS`` in addition to detectron2's own."""

from .cityscapes import replace_builtin_loaders
from .coco import register_coco_subsets
from .imagenet import register_imagenet
from .semseg import register_bdd100k
from .video import register_bdd100k_video
from .voc_seg import register_voc_2012_sem_seg


def register_builtin(root: str) -> None:
    """Register all built-in data sets; read no file below the folder ``root`` before a data set is used."""
    register_imagenet(root)
    register_coco_subsets(root)
    register_bdd100k(root)
    register_bdd100k_video(root)
    register_voc_2012_sem_seg(root)
    replace_builtin_loaders()
