"""Faults that a run must survive, injected into real runs: ``python tests/faults`` makes the table of them."""
