"""Estimate optical flow of videos; `pixpro_d2.flow_files` stores it."""

ESTIMATORS = ("dis", "raft_small", "raft_large")  # here, so that the help of tools does not load PyTorch
