"""Views of unlabelled images and videos, and their loader."""
