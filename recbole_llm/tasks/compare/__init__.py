"""Comparisons of models (cells, statistics, tables, a page), and searches for their settings."""
