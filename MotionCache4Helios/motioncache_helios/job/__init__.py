"""A job of Helios: one prompt, as the demo, the benchmark and the command line sample it."""
