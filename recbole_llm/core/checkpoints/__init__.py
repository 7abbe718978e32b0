"""Checkpoints: their content, and how they are read; nothing stored is trusted."""
