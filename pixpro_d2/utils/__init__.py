"""Shared helpers; the modules here import no other package of pixpro_d2."""
