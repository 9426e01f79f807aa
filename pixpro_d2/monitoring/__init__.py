"""Curves of a run, and a judgement of the run's health."""
