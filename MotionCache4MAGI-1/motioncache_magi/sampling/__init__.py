"""The sampling loop, which knows no cache."""
