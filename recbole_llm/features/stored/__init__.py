"""Vectors and generated texts that were made once, kept in one file."""
