"""Layers that two or more methods share. They import nothing of this package but `core`."""
