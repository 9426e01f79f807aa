"""Check data sets before a run."""
