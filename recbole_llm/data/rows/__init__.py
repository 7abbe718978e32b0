"""Rows of a data set: histories, targets, splits, and what users have in training."""
