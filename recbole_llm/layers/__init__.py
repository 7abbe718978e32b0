"""Layers that two or more methods share. Of this package they import `core` alone."""
