"""Pictures of pre-training and of downstream predictions."""
