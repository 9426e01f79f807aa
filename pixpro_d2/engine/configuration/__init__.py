"""Read, merge and check the config of a run."""
