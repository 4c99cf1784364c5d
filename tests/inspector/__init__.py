"""Tests of the inspection page."""
