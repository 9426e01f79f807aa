"""Render images and videos with exact labels and flow."""
