"""Trainers that models share."""
