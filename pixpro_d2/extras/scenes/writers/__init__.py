"""Writers of rendered scenes in the layouts of public data sets.

A writer is a generator function ``writer(root, split, samples)``: it takes the samples of one split one by
one, writes what its layout keeps of each below ``root``, hands each on, and after the last one writes what
describes the whole split. Writers chain, ``write_coco(root, split, write_voc(root, split, samples))``, so
that one pass, holding one image at a time, writes several layouts. A further layout is one more such function
in ``WRITERS``.
"""

from .cityscapes import write_cityscapes
from .classes import write_classes
from .coco import write_coco
from .sample import Sample
from .voc import write_voc

WRITERS = {  # By name of the layout.
    "voc": write_voc,
    "coco": write_coco,
    "cityscapes": write_cityscapes,
    "classes": write_classes,
}

__all__ = ["WRITERS", "Sample"]
