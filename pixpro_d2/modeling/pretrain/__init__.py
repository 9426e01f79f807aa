"""Pre-training: two branches, positive pairs, propagation, losses."""
