"""Heads and meta-architectures of downstream tasks."""
