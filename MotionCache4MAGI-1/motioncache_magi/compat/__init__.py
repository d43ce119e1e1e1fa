"""The published code where it is known to be wrong."""
