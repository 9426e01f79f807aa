"""Sub-commands of ``pixpro-d2`` that choose a config and its options, and start the launcher with them.

Arguments and paths are checked before PyTorch and detectron2 are loaded, so modules here load them in functions.
"""
