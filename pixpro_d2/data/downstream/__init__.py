"""Loaders of labelled data: classification, detection, segmentation."""
