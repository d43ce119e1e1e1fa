"""The benchmark: every method on the same model, noise and machine, one JSON per video and method."""
