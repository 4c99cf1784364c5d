"""Exposures with known defects, for the demo and for tests of accuracy."""
