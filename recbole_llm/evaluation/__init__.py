"""Evaluation: ranking, groups, significance, reports."""
