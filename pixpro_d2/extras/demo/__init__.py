"""Compare ways to start a training on rendered scenes, in a small demo."""
