"""Layers that two or more methods share. They import torch alone."""
