"""Prepare driving video: frames, flow files, and their quality."""
