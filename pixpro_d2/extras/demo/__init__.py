"""The demo: a small comparison of ways to begin a training, on rendered scenes."""
