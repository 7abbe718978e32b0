"""Conversion of users' own tables to data sets."""
