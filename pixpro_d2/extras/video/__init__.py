"""Prepare driving video: frames, flow files, and their quality."""

EXTENSIONS = (".mov", ".mp4", ".avi", ".mkv", ".webm", ".m4v")  # of the videos that are read
