"""Plugins: what they register, and how they are found and checked."""
