"""Curves of a run, and what they say about its health."""
