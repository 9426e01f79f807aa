"""Write rendered scenes in the layouts of public data sets.

A writer is a generator function ``writer(root, split, samples)``. It takes the samples of one split one by one, writes
the files of each sample below ``root``, and yields the sample. After the last sample, it writes the files of the whole
split. Writers chain: ``write_coco(root, split, write_voc(root, split, samples))`` writes two layouts in one pass, with
one image in memory. A new layout is a new function in ``WRITERS``.
"""

from .cityscapes import write_cityscapes
from .classes import write_classes
from .coco import write_coco
from .sample import Sample
from .voc import write_voc

WRITERS = {  # layout -> writer
    "voc": write_voc,
    "coco": write_coco,
    "cityscapes": write_cityscapes,
    "classes": write_classes,
}

__all__ = ["WRITERS", "Sample"]
