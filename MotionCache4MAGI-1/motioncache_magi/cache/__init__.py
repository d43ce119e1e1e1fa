"""The cache on MAGI-1."""
