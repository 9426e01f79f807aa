"""A study of what pre-training brings: experiments as data, run one after the other, reported from their results."""
