"""Trainers that methods share."""
