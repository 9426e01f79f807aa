"""Files of images, lists of files, and worker processes."""
