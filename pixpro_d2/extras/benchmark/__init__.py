"""Measure the speed of the parts of pre-training; ``python -m pixpro_d2.tools.benchmark`` prints the results."""
