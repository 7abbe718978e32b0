"""Configuration, plugins, checkpoints, and the only workarounds for RecBole."""
