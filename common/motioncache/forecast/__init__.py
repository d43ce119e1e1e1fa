"""`forecast`: our own method."""
