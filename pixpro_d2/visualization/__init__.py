"""Pictures of what pre-training and detection do."""
