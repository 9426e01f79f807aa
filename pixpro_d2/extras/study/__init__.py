"""Study the gain of pre-training: experiments as data, run one after the other, reported from their results."""
