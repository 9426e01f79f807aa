"""How fast the parts of pre-training are; ``python -m pixpro_d2.tools.benchmark`` prints it."""
