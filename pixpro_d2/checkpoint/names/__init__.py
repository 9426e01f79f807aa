"""Translate the names of other projects' tensors to detectron2's names."""
