"""Checkpoints in the official layout."""
