"""Names of other projects' tensors, translated into detectron2's."""
