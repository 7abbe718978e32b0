"""Recommenders, one folder per method."""
