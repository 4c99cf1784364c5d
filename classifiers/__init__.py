"""Vectors and labels to models, predictions and reports."""
