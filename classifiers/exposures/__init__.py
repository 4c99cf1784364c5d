"""Whole exposures: their features, their classifier, and how far they are from good ones."""
