"""Recommenders, a folder each."""
