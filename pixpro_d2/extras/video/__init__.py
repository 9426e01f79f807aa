"""Preparation of driving video: frames, flow files, and their quality."""
