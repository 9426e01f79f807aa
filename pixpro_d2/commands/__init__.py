"""Provide sub-commands of ``pixpro-d2`` that choose a config and its options, and start the launcher with them.

Commands check arguments and paths before they load PyTorch and detectron2. Modules here therefore import both within
functions.
"""
