"""Checks of data sets before a run."""
